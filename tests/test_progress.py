"""Numbers to words, table by table; what a run tells of itself, in the log and on a terminal."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.shops import served, shop
from support.taps import QuickTap, Target, discover, run, settings

from tap_vitess.config import Config
from tap_vitess.errors import RequestError
from tap_vitess.protocol.changes import ChangeStream
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.records.records import Tally
from tap_vitess.run import progress
from tap_vitess.run.pace import Activity
from tap_vitess.run.progress import Progress, details, ending, headline, summary
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.survey.keyspace import Survey
from tap_vitess.survey.tables import row_counts

ROWS = 400
UUID = "ac6c45eb-ca9c-11f0-8471-0242ac110002"


def two_tables() -> Cluster:
    columns = (Column("id", "int", nullable=False), Column("v", "varchar(40)"))
    cluster = shop(*(Table(name, columns, primary_key=("id",)) for name in ("item", "other")))
    cluster.insert("shop", "item", [{"id": b"%d" % i, "v": b"a"} for i in range(ROWS)])
    return cluster


pytestmark = served(two_tables)


# Words


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress("ks", "asking", 0, 0), ("ks: asking", "0 rows so far, 0 rows/s")),
        (
            Progress("ks", "copying", 7, 3.6, "t", 1234, 5000),
            ("ks.t: copying", "1,234 of about 5,000 rows (25 %), 4 rows/s"),
        ),
        (Progress("ks", "copying", 7, 1, "t", 6, 5), ("ks.t: copying", "6 rows, 1 rows/s")),
        (Progress("ks", "copying", 7, 1, "t", 6), ("ks.t: copying", "6 rows, 1 rows/s")),
        (Progress("ks", "copying", 7, 1, "t", 0, 0), ("ks.t: copying", "0 rows, 1 rows/s")),
        (Progress("ks", "copying", 7, 1), ("ks: copying", "7 rows so far, 1 rows/s")),
        (
            Progress("ks", "streaming", 7, 12345.6, behind={}),
            ("ks: streaming", "7 rows so far, 12,346 rows/s, up to date"),
        ),
        (
            Progress("ks", "streaming", 7, 1, behind={"-80": 5, "80-": 1000}),
            (
                "ks: streaming",
                "7 rows so far, 1 rows/s, transactions to the stop position: 80- 1,000, -80 5",
            ),
        ),
        (
            Progress("ks", "streaming", 0, 0, behind={f"{i}": i for i in range(1, 8)}),
            (
                "ks: streaming",
                "0 rows so far, 0 rows/s, transactions to the stop position: "
                "7 7, 6 6, 5 5, 4 4 and 3 more shards",
            ),
        ),
        (
            Progress("ks", "streaming", 0, 0, resharded={"80-", "-80"}),
            ("ks: streaming", "0 rows so far, 0 rows/s, before the reshard of -80, 80-"),
        ),
        (
            Progress("ks", "streaming", 0, 0, behind={"80-": 2}, resharded={"-80"}),
            (
                "ks: streaming",
                "0 rows so far, 0 rows/s, transactions to the stop position: 80- 2, "
                "before the reshard of -80",
            ),
        ),
    ],
)
def test_words(progress: Progress, words: tuple[str, str]) -> None:
    """What is not known is not told."""
    assert (headline(progress), details(progress)) == words


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"copied": True}, "up to date"),
        ({"copied": True, "stopped": True}, "stopped before the stop position"),
        ({}, "its copy resumes in the next run"),
        ({"full_table": True, "copied": True}, "copied"),
        ({"full_table": True}, "not copied to the end; it starts again in the next run"),
        ({"copied": True, "error": "binlogs purged"}, "not finished: binlogs purged"),
    ],
)
def test_endings(facts: dict[str, Any], words: str) -> None:
    """Where a table's run ended, and why."""
    usual: dict[str, Any] = {"full_table": False, "copied": False, "stopped": False, "error": None}
    assert ending(**{**usual, **facts}) == words


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([], "ks-t: no rows; the end"),
        ([({"copy": 1200}, 5.0)], "ks-t: 1,200 rows copied in 0.0 s; the end"),
        (
            [({"copy": 3}, 5.0), (["insert", "delete", "delete"], 7.5)],
            "ks-t: 3 rows copied, 1 insert, 2 deletes in 2.5 s; the end",
        ),
        ([(["update"], 0.0), (["update"], 1.0)], "ks-t: 2 updates in 1.0 s; the end"),
    ],
)
def test_summaries(batches: list[tuple[Any, float]], words: str) -> None:
    """Kinds that did not occur are left out."""
    tally = Tally()
    for operations, now in batches:
        tally.add(operations, now)
    assert summary("ks-t", tally, "the end") == words


def test_the_distance_to_the_stop_position() -> None:
    """Counted by shard; a shard that has passed it is left out, and so is one it does not name."""

    def at(**shards: str) -> Vgtid:
        named = {shard.replace("_", "-"): f"{UUID}:{gtids}" for shard, gtids in shards.items()}
        return Vgtid("ks", {shard: GtidSet.parse(gtids) for shard, gtids in named.items()})

    position, stop = at(_40="1-5", _80="1-90", _c0="1-9"), at(_40="1-9:11", _80="1-80")
    feed = ChangeStream(["t"], position, stop, RequestOptions())
    assert feed.distance == {"-40": 5}
    assert Activity("streaming", feed=feed).behind == {"-40": 5}
    assert Activity("copying").behind == {}
    assert Activity("streaming", feed=feed).resharded == {"-c0"}
    assert Activity("copying").resharded == frozenset()


def test_rows_are_counted_over_the_shards(sandbox: Sandbox) -> None:
    """The keyspace itself would give one shard's."""
    survey = Survey(Config.from_settings(settings(sandbox)), "shop", "PRIMARY")
    assert sandbox.cluster.rows_of_first_shard("shop", "item") < ROWS
    assert survey.ask(row_counts, ["item"]) == {"item": ROWS}


# Runs


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == progress.__name__]


def test_a_summary_a_stream(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Copied rows, changes by kind, and where each ended."""
    caplog.set_level(logging.INFO)
    target = Target()
    assert run(settings(sandbox), target)
    lines = told(caplog)
    assert re.fullmatch(r"shop-item: 400 rows copied in \d\.\d s; up to date", lines[0])
    assert lines[1:] == ["shop-other: no rows; up to date"]
    caplog.clear()
    cluster = sandbox.cluster
    cluster.insert("shop", "item", [{"id": b"%d" % i} for i in (1000, 1001)])
    cluster.update("shop", "item", {"id": b"1"}, {"v": b"b"})
    cluster.update("shop", "item", {"id": b"2"}, {"id": b"3000"})
    cluster.delete("shop", "item", {"id": b"3"})
    assert run(settings(sandbox), target)
    [line, _] = told(caplog)
    assert line.startswith("shop-item: 3 inserts, 1 update, 2 deletes in ")


def test_a_summary_of_what_was_left_behind(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason; the others are up to date."""
    caplog.set_level(logging.INFO)
    target = Target()
    assert run(settings(sandbox), target)
    catalog = discover(settings(sandbox))
    caplog.clear()
    sandbox.cluster.ddl("shop", "drop table other", None)
    sandbox.cluster.update("shop", "item", {"id": b"1"}, {"v": b"b"})
    with pytest.raises(RequestError):
        run(settings(sandbox), target, catalog=catalog)
    item, other = told(caplog)
    assert item.startswith("shop-item: 1 update in ")
    assert other.startswith("shop-other: no rows; not finished: ")
    assert "other" in other.removeprefix("shop-other")


class Slow(Target):
    """A target that lets time pass now and then."""

    def _record(self, message: dict[str, Any]) -> None:
        super()._record(message)
        if len(self.messages) % 100 == 0:
            time.sleep(0.15)


def lines_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in told(caplog) if "rows/s" in line]


def test_lines_in_mid_run(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """The table, its rows of about how many, and the pace; behind, the summary."""
    caplog.set_level(logging.INFO)
    assert run(settings(sandbox, progress_seconds=0.05), Slow())
    lines = lines_told(caplog)
    pattern = r"shop\.item: copying, (\d+) of about 400 rows \((\d+) %\), [\d,]+ rows/s"
    found = [match for line in lines if (match := re.fullmatch(pattern, line))]
    assert found, lines
    assert all(int(match[2]) == round(100 * int(match[1]) / ROWS) for match in found)
    assert told(caplog)[-2].startswith("shop-item: 400 rows copied")


@pytest.mark.slow
def test_lines_while_changes_are_followed(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """How far each shard is from the stop position."""
    caplog.set_level(logging.INFO)
    target = Slow()
    assert run(settings(sandbox), target)
    for i in range(ROWS):
        sandbox.cluster.update("shop", "item", {"id": b"%d" % i}, {"v": b"c"})
    caplog.clear()
    assert run(settings(sandbox, progress_seconds=0.05), target)
    lines = [line for line in lines_told(caplog) if "shop: streaming" in line]
    assert any(re.search(r"transactions to the stop position: .*\d", line) for line in lines), lines


@pytest.mark.slow
def test_a_copy_that_goes_on_has_no_share(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows how much of it an earlier run has copied."""
    caplog.set_level(logging.INFO)
    target = Target()
    assert not run(settings(sandbox), target, lines=ROWS // 2)
    slow = Slow(states=target.states)
    slow.keys = target.keys
    caplog.clear()
    assert run(settings(sandbox, progress_seconds=0.02), slow)
    lines = [line for line in lines_told(caplog) if "shop.item: copying" in line]
    assert lines
    assert not any("of about" in line for line in lines)


class Unasked(QuickTap):
    """A tap whose source does not tell how many rows there are."""

    def _estimate_rows(self, keyspace: str, tables: Iterable[str]) -> Mapping[str, int]:
        raise RequestError(f"{keyspace} tells nothing of {tables}")


def test_no_estimate(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """The lines come without a share."""
    caplog.set_level(logging.INFO)
    assert run(settings(sandbox, progress_seconds=0.05), Slow(), tap_class=Unasked)
    lines = [line for line in lines_told(caplog) if "shop.item: copying" in line]
    assert lines
    assert not any("of about" in line for line in lines)


def test_no_lines_when_off(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """The summary stays."""
    caplog.set_level(logging.INFO)
    assert run(settings(sandbox, progress_seconds=0), Slow())
    assert lines_told(caplog) == []
    assert len(told(caplog)) == 2


@pytest.mark.slow
def test_a_bar_on_a_terminal(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is drawn in place, log lines stand by themselves, and stdout holds messages only."""
    pytest.importorskip("tqdm")
    values = [{"id": b"%d" % i, "v": b"a" * 40} for i in range(ROWS, 4000)]
    sandbox.cluster.insert("shop", "item", values)
    config = tmp_path / "c.json"
    config.write_text(json.dumps(settings(sandbox)))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 140))
    seen = bytearray()
    reader = threading.Thread(target=_drain, args=(ours, seen))
    start = [sys.executable, "-m", "tap_vitess", "--config", str(config)]
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=theirs) as tap:
        os.close(theirs)
        reader.start()
        deadline = time.monotonic() + 20
        while b"of about 4,000 rows" not in seen and time.monotonic() < deadline:
            time.sleep(0.05)  # nobody reads stdout: the tap waits
        out, _ = tap.communicate(timeout=30)
        reader.join()
    os.close(ours)
    assert tap.returncode == 0, seen.decode()
    text = seen.decode()
    assert re.search(r"\rshop\.item: copying, .* of about 4,000 rows \(\d+ %\).*\|", text), text
    assert "shop-item: 4,000 rows copied" in text
    assert {json.loads(line)["type"] for line in out.splitlines()} == {
        "STATE",
        "SCHEMA",
        "RECORD",
        "ACTIVATE_VERSION",
    }


def _drain(terminal: int, into: bytearray) -> None:
    """Read until the other side is closed."""
    with contextlib.suppress(OSError):
        while more := os.read(terminal, 1 << 16):
            into += more
