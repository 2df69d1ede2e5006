"""The preflight report: the problems a run would meet, found without a run and without the SDK."""
