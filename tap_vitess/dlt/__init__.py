"""Tables of a Vitess in a warehouse: a dlt source, and `tap-vitess-load`. See docs/load.md."""

from __future__ import annotations

from tap_vitess.dlt.source import vitess_source

__all__ = ["vitess_source"]
