"""The tap; the only room that knows the SDK."""
