"""The preflight report: what a run would meet, found out without running; without the SDK."""
