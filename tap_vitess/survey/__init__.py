"""Every question asked by SQL: a function each, by what it is about."""
