"""Makes the notebooks from their sources, runs them, writes the report and the README's figures."""
