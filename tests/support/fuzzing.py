"""What the fuzzers share: the number of cases, what must hold for each, how documents are broken.

For every case: no error but ours, an end within `SECONDS`, no secret in logs and errors. Each
fuzzer adds when rows must be there. `TAP_VITESS_FUZZ=200` tries two hundred times as many cases as
CI does, which takes about an hour.
"""

from __future__ import annotations

import base64
import binascii
import copy
import fnmatch
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from support.shops import shop, table
from support.taps import ImpatientTap, Target, run
from tap_vitess.errors import VitessError
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.server import Sandbox, serve

FACTOR = int(os.environ.get("TAP_VITESS_FUZZ", "1"))
SECONDS = 15
PASSWORD, TOKEN, VALUE = "correct-horse", "Bearer-abc.def", "value-nobody-may-log"
SECRETS = {"user": "elt", "password": PASSWORD, "grpc_headers": {"x-token": TOKEN}}
TABLES = ("alpha", "beta", "gamma")

# `watched` has its own clock, so pytest-timeout is off.
fuzz = [pytest.mark.fuzz, pytest.mark.timeout(0)]


def cases(number: int, *, slow: bool = False) -> hypothesis.settings:
    """Try so many cases in CI, always the same; with `FACTOR` that many times more, and others.

    A slow case that fails is reported without shrinking it, which would take minutes.
    """
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return hypothesis.settings(
        max_examples=number * FACTOR,
        suppress_health_check=checks,
        derandomize=FACTOR == 1,
        phases=[Phase.generate] if slow else tuple(Phase),
        report_multiple_bugs=not slow,
    )


@contextmanager
def guarded() -> Iterator[Sandbox]:
    """Serve three tables to clients with the password."""
    with serve(stock(), username="elt", password=PASSWORD) as sandbox:
        yield sandbox


def stock() -> Cluster:
    """Make three tables with some rows on two shards."""
    cluster = shop(*map(table, TABLES))
    for number, name in enumerate(TABLES):
        fill(cluster, name, range(6 * number, 6 * number + 6))
    return cluster


def fill(cluster: Cluster, name: str, ids: Sequence[int]) -> None:
    """Insert rows whose values nobody may log."""
    cluster.insert("shop", name, [{"id": b"%d" % i, "name": VALUE.encode()} for i in ids])


def ids(cluster: Cluster, name: str) -> set[int]:
    """Return the keys of a table's rows."""
    return {int(row["id"] or b"") for row in cluster.rows("shop", name)}


# What must hold


class Told(logging.Handler):
    """Collects log lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage() + (str(record.exc_info) if record.exc_info else ""))


@contextmanager
def watched() -> Iterator[Told]:
    """Assert that a case ends in time, and that its log has no secrets."""

    def late(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise AssertionError(f"no end after {SECONDS} s")

    told, root = Told(), logging.getLogger()
    root.addHandler(told)
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield told
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        root.removeHandler(told)
    for secret in (PASSWORD, TOKEN, VALUE):
        assert not [line for line in told.lines if secret in line]


def outcome(act: Callable[[], object]) -> VitessError | None:
    """Do it; return our error that ends it, if any. Other errors are raised."""
    with watched() as told:
        try:
            act()
        except VitessError as error:
            told.lines.append(str(error))
            found: VitessError | None = error
        else:
            found = None
    if hypothesis.currently_in_test_context():
        hypothesis.event(type(found).__name__ if found else "no error")
    return found


def ran(
    config: Mapping[str, Any],
    into: Target,
    *,
    state: dict[str, Any] | None = None,
    catalog: dict[str, Any] | None = None,
) -> VitessError | None:
    """Run the tap, which retries nothing; return the error that it ends with, if any."""
    return outcome(
        lambda: run(dict(config), into, state=state, catalog=catalog, tap_class=ImpatientTap)
    )


def one_line(error: VitessError) -> None:
    """Assert that a terminal can show an error, and that it is not too long."""
    assert str(error).isprintable()
    assert len(str(error)) < 2000


def wants(found: Mapping[str, Any], name: str) -> bool:
    """Return whether settings select a table."""

    def fits(patterns: Any) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    tables = found.get("tables")
    return (tables is None or fits(tables)) and not fits(found.get("exclude_tables") or ())


def name_of(found: Mapping[str, Any], table: str) -> str:
    """Return the name of a table's stream by the settings."""
    form = found.get("stream_name") or "{keyspace}-{table}"
    return str(form).replace("{keyspace}", "shop").replace("{table}", table)


# Processes


def ended(script: str, arguments: Sequence[str], into: Target | None = None) -> tuple[int, str]:
    """Run a console script to its end; return its exit code and stderr.

    Args:
        script: its name.
        arguments: of its command line.
        into: takes its stdout, which must be Singer messages only.
    """
    crowd = os.getloadavg()[0] / (os.cpu_count() or 1)
    done = subprocess.run(
        [Path(sys.executable).with_name(script), *arguments],
        capture_output=True,
        timeout=SECONDS * max(1.0, crowd),
        check=False,
    )
    errors = done.stderr.decode()
    assert "Traceback" not in errors, errors
    assert done.returncode in {0, 1, 2, 3}, errors
    assert done.returncode == 0 or errors or done.stdout, "nothing is told"
    for secret in (PASSWORD, TOKEN, VALUE):
        assert secret not in errors, errors
    if into is not None:
        for line in done.stdout.splitlines():
            into.take(line)
    return done.returncode, errors


# Documents with a fault

_DEEP = "[" * 120 + "]" * 120
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 7, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308),
    *(
        float("inf"),
        float("nan"),
        "",
        "x",
        "0",
        "-1",
        "null",
        "{}",
        "[]",
        "a\0b",
        "\ud800",
        "é" * 9,
    ),
    *(
        "\x1b[31m",
        "%s%n",
        "{0}",
        "../..",
        "*",
        "a.b",
        "-80",
        "x" * 9999,
        "\n",
        "AAAA",
        "[" * 12_000,
    ),
    *([], {}, [None], [[]], {"a": 1}, {"": None}, [_DEEP]),
)
# Always a new object, because later breaks may go down into it.
odd: st.SearchStrategy[Any] = st.sampled_from(ODD).map(
    lambda value: json.loads(_DEEP) if value == [_DEEP] else copy.deepcopy(value)
)


@st.composite
def broken(draw: st.DrawFn, document: Any, most: int = 2) -> Any:
    """Break a JSON document in one or more places, also within texts of JSON and base64."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        found = _broken(draw, found)
    return found


def _broken(draw: st.DrawFn, value: Any) -> Any:
    """Mostly go down, and break what is there."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 7)):
        keys = sorted(value, key=str) if isinstance(value, dict) else range(len(value))
        key = draw(st.sampled_from(list(keys)))
        match draw(st.sampled_from(["down"] * 9 + ["out", "twice", "other"])):
            case "down":
                value[key] = _broken(draw, value[key])
            case "out":
                del value[key]
            case "twice" if isinstance(value, list):
                value.append(copy.deepcopy(value[key]))
            case "other" if isinstance(value, dict):
                value[str(draw(odd))[:99]] = value.pop(key)
            case _:
                value[key] = draw(odd)
        return value
    if isinstance(value, str) and value and draw(st.booleans()):
        return _broken_text(draw, value)
    if isinstance(value, int) and not isinstance(value, bool) and draw(st.booleans()):
        return value + draw(st.sampled_from([-1, 1, 1000, 2**40]))
    return draw(odd)


def _broken_text(draw: st.DrawFn, text: str) -> str:
    if text.startswith(("{", "[")):
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return json.dumps(_broken(draw, inner)) if inner else "{"
    try:
        raw = bytearray(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raw = bytearray()
    at = draw(st.integers(0, len(text) - 1))
    if len(raw) > 20:
        raw[at % len(raw)] ^= 1 << draw(st.integers(0, 7))
        return base64.b64encode(raw).decode()
    letter = draw(st.sampled_from(["", "0", "9", "-", ":", ",", "\x00", "é", " ", text[at] * 2]))
    return text[:at] + letter + text[at + 1 :]


def readable(document: Any) -> Any:
    """Return the document as read back from a file; invalid texts stay."""
    return json.loads(json.dumps(document))
