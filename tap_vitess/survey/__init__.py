"""Every SQL query: one function each, sorted by subject."""
