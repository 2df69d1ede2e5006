"""MySQL's values: what each type becomes; pure."""
