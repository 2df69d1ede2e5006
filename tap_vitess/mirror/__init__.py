"""The state in a table of the user's."""
