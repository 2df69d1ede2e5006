"""Tables of a Vitess as a dlt source, and how they are loaded. See docs/load.md."""

from __future__ import annotations

from tap_vitess.dlt.source import vitess_source

__all__ = ["vitess_source"]
