"""All SQL queries: one function each, by subject."""
