"""Starts a broker and workers for a notebook, and watches the workers."""
