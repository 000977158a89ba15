"""A playground: choose an experiment, press a button, and watch the timeline grow."""
