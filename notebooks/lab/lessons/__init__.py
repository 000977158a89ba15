"""The helpers of the lessons: samples, a mail server, checks of exercises, verdicts."""
