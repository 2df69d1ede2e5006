"""MySQL's values, and what each type is converted to; pure."""
