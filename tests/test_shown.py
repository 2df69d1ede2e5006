"""Names that a server tells, in the log, in errors and in the doctor's report."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.findings import look
from support.shops import shop
from support.taps import QuickTap, Target, run, settings

from tap_vitess.doctor.report import as_json, as_text
from tap_vitess.errors import RetriableError, VitessError, shown
from tap_vitess.log import logger_of
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import serve
from tap_vitess.vtgate.faults import classify

EVIL = "\x1b]0;owned\x07\x9b2J\n2026 | CRITICAL | all is well\u202e\u2028"
ENDLESS = "e" * 100_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shop.orders: Zoë's 日本 `x`", "shop.orders: Zoë's 日本 `x`"),
        ("a\x1b[2Jb\nc\x7f\x9b", "a\\x1b[2Jb\\nc\\x7f\\x9b"),
        ("a\u202eb\u2028\ud800", "a\\u202eb\\u2028\\ud800"),
        (f"table {ENDLESS} is gone", f"table {'e' * 200}… (100,000 characters) is gone"),
        ("a " * 50_000, "a " * 7_500 + "… …" + "a " * 2_500),
    ],
)
def test_text_for_terminals(text: str, expected: str) -> None:
    """Usual names stay as they are; text that was made so stays, too."""
    assert shown(text) == expected
    assert str(VitessError(text)) == expected
    assert shown(expected) == expected


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    assert shown(text).isprintable()


def test_a_log_line_is_shown_once(caplog: pytest.LogCaptureFixture) -> None:
    """Also where it has a % that is none of logging's."""
    with caplog.at_level(logging.INFO):
        logger_of("tap_vitess.anything").info("%s: %d %%\n", "100%s\x1b", 7)
    assert caplog.messages == ["100%s\\x1b: 7 %\\n"]


def evil() -> Cluster:
    """Make tables without keys, which are warned of by name, one of which cannot be read."""
    cluster = shop(*(Table(name, (Column("v", "int"),)) for name in (EVIL, ENDLESS, "plain")))
    cluster.insert("shop", EVIL, [{"v": b"1"}])
    return cluster


def test_what_a_server_calls_its_tables(caplog: pytest.LogCaptureFixture) -> None:
    """Every line is one line, and no longer than a page."""
    with serve(evil()) as sandbox:
        with caplog.at_level(logging.INFO):
            run(settings(sandbox), Target(), tap_class=QuickTap)
        findings = look(sandbox)
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("tap_vitess.")]
    report = as_text(findings, 100).split("\n")
    document = as_json(findings)
    said = str(classify("grpc", "UNKNOWN", f"{EVIL} {ENDLESS}"))
    lines = [said, *ours, *report, *document.split("\n")]
    assert sum(not line.isprintable() or len(line) > 2_000 for line in lines) == 0
    assert any("\\x1b]0;owned" in line for line in ours)
    assert any("\\x1b]0;owned" in line for line in report)
    assert any("00,0" in line and " characters)" in line for line in ours)
    assert json.loads(document)["findings"]


def test_an_error_keeps_its_table_as_it_is() -> None:
    """What is shown is the sentence; the name goes on to tell the table."""
    error = RetriableError(f"shop.{EVIL}: it is gone", table=EVIL)
    assert error.table == EVIL
    assert str(error).startswith("shop.\\x1b]0;owned")
