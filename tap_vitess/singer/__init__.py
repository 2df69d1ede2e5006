"""The tap; the only package that imports the SDK."""
