"""Fuzzers; what all of them hold is in `support/fuzzing.py`."""
