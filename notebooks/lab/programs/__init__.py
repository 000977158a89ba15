"""Child processes that end with this one, in whatever way it ends."""
