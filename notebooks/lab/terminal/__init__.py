"""Shows traces in a terminal, of a file or of an app as it is watched; measures nothing."""
