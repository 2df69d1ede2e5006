"""MySQL's values, one entry a type; pure."""
