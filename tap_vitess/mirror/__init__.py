"""The tap's state kept in a table of Vitess, in addition to Singer's."""
