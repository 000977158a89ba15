"""What only the lessons need: samples, a mail server, checks of exercises, verdicts."""
