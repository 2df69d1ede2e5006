"""`tap-vitess-load`: one command from a tap's settings into a dlt destination."""
