"""Tests against a real Vitess: what no simulation can promise. See conftest.py for how they run."""
