"""Findings -> text for people, or one JSON document. Pure.

The text ends with the worst finding, because the end is what a terminal shows.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from tap_vitess.codes import code_of
from tap_vitess.doctor.findings import Finding, Severity, exit_code
from tap_vitess.errors import shown

_WORDS = {
    Severity.ERROR: ("error", "errors"),
    Severity.WARNING: ("warning", "warnings"),
    Severity.INFO: ("note", "notes"),
    Severity.OK: ("check passed", "checks passed"),
}


def as_text(findings: Sequence[Finding], width: int) -> str:
    """Format each finding: its severity, its place, what was found, and what to do."""
    places = [str(finding.place) for finding in findings]
    margin = 9 + min(28, max(map(len, places), default=0)) + 2
    body = max(30, width - margin)
    lines: list[str] = []
    for finding in sorted(findings, key=lambda finding: finding.severity):
        head = f"{finding.severity.name.lower():9}{finding.place}"
        if len(head) + 2 > margin:
            lines.append(head)
            head = ""
        texts = textwrap.wrap(_what(finding), body)
        if finding.advice:
            texts += textwrap.wrap(f"-> {finding.advice}", body, subsequent_indent="   ")
        for text in texts:
            lines.append(f"{head:{margin}}{text}")
            head = ""
    return "\n".join([*lines, "", _summary(findings)])


def as_json(findings: Sequence[Finding]) -> str:
    """Return one JSON document: every finding, the number of each severity, the exit code."""
    counts = Counter(finding.severity for finding in findings)
    document = {
        "format": 1,
        "exit_code": exit_code(findings),
        "counts": {severity.name.lower(): counts[severity] for severity in Severity},
        "findings": [
            {
                "severity": finding.severity.name.lower(),
                "check": finding.check,
                **{name: part and shown(part) for name, part in asdict(finding.place).items()},
                "code": _code(finding),
                "what": finding.what,
                "advice": finding.advice or None,
            }
            for finding in findings
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _what(finding: Finding) -> str:
    code = _code(finding)
    return finding.what if code is None else f"{finding.what} [{code}]"


def _code(finding: Finding) -> str | None:
    """Return a finding's code; an OK has none."""
    return None if finding.severity is Severity.OK else code_of(finding.what)


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    return ", ".join(f"{counts[s]} {words[counts[s] != 1]}" for s, words in _WORDS.items())
