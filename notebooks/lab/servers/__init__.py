"""Starts what is watched: on a thread, on the notebook's loop, in a process of its own."""
