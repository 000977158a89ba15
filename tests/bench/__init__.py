"""How true, how cheap and how fast the instrument is: ratios from one run, each with its bar."""
