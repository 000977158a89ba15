"""Runs one app with many versions and on many servers, and keeps what became of its work."""
