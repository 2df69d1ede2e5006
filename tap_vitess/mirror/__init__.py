"""The tap's state kept in a table of Vitess, beside Singer's."""
