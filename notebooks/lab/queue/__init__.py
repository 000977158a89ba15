"""Starts a broker and workers for a notebook, and watches what the workers do."""
