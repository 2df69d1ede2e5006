"""Singer tap for Vitess: copies tables and follows their changes through VStream."""
