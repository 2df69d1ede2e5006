"""`tap-vitess-load`: one line from the settings of a tap into a destination of dlt's."""
