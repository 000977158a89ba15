"""Sends a notification by e-mail."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage

from .settings import settings


def send_email(email: str) -> None:
    """Send a notification over SMTP.

    email: the recipient's address. Raises OSError or smtplib.SMTPException when sending fails.
    """
    message = EmailMessage()
    message["From"] = "notifications@example.com"
    message["To"] = email
    message["Subject"] = "Notification"
    message.set_content("Your request has been received.")
    # Read for each mail: a mail server may have started after the service.
    host, port = settings().SMTP_HOST, settings().SMTP_PORT
    # Without a name of our own, smtplib asks the DNS for one, which can take seconds.
    with smtplib.SMTP(host, port, "localhost", timeout=10) as smtp:
        smtp.send_message(message, to_addrs=[email])
