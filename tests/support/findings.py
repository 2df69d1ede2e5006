"""What the doctor finds in a sandbox, in short."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from support.taps import settings
from tap_vitess.config import Config
from tap_vitess.doctor.examine import examine
from tap_vitess.doctor.findings import Finding, Severity
from tap_vitess.sandbox.server import Sandbox

OK = Severity.OK


def look(sandbox: Sandbox, state: Mapping[str, Any] | None = None, **more: Any) -> list[Finding]:
    """Examine a sandbox with the bookmarks of a state."""
    found = Config.from_settings(settings(sandbox, **{"connect_timeout_seconds": 2, **more}))
    return examine(found, None, (state or {}).get("bookmarks"))


def brief(findings: Iterable[Finding]) -> set[tuple[str, str, str]]:
    """Return severity, check and place of the findings that are not OK."""
    return {(f.severity.name, f.check, str(f.place)) for f in findings if f.severity is not OK}


def the(findings: Iterable[Finding], check: str) -> Finding:
    """Return the one finding of a check that is not OK."""
    (found,) = [f for f in findings if f.check == check and f.severity is not OK]
    return found
