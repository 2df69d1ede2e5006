"""Judges VTGate and a keyspace's shards: facts in, findings out. Pure.

Limits that are a matter of taste are constants.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tap_vitess.config import Config
from tap_vitess.doctor.findings import ERROR, INFO, WARNING, Finding, Place, duration
from tap_vitess.survey.bookmark import READS_PARTIAL_JSON
from tap_vitess.survey.facts import ShardFacts, Tablet, Throttling, Version
from tap_vitess.survey.vschema import Keyspace

OLDEST, NEWEST = 19, 24  # Vitess releases whose differences are known
MOST_SKEW_SECONDS = 10.0
SHORT_RETENTION_SECONDS = 86_400
STREAMING_APPS = ("vstreamer", "rowstreamer", "all")

_HERE = Place()
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


# VTGate


def transport(config: Config) -> Iterator[Finding]:
    """Judge how the connection is secured."""
    if config.tls is not None:
        shown = ", with a client certificate" if config.tls.cert_file else ""
        yield _HERE.ok("tls", f"TLS on both ports{shown}")
    elif (config.user is not None or config.grpc_headers) and config.host not in _LOOPBACK:
        yield _HERE.warning(
            "tls", "credentials go over the wire in the clear", "set tls, where VTGate offers it"
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of Vitess, and the first release without it in each release line."""

    right: tuple[Version, ...]
    what: str
    advice: str


_PROBLEMS = (
    Problem(
        ((20, 0, 0),),
        "a run cannot resume from before a reshard once traffic is switched",
        "run to the end before traffic is switched, or upgrade to v20",
    ),
    Problem(
        ((22, 0, 0),),
        "VTGate interrupts a copy of a shard that takes longer than an hour (errno 3024)",
        "nothing for tables with a key, because their copies resume; large tables "
        "without a key need v22",
    ),
    Problem(
        ((20, 0, 7), (21, 0, 4), (22, 0, 0)),
        "a spurious EOF may interrupt copies; they are retried",
        "upgrade to v20.0.7, v21.0.4 or v22, if runs end by it",
    ),
)


def version(found: Version | None) -> Iterator[Finding]:
    """Judge VTGate's version by its known faults."""
    if found is None:
        yield _HERE.warning("version", "VTGate does not report its version")
        return
    shown = ".".join(map(str, found))
    if found[0] < OLDEST:
        yield _HERE.error(
            "version",
            f"Vitess {shown} is older than v{OLDEST}, the first that this tap knows",
            "upgrade",
        )
    elif found[0] > NEWEST:
        yield _HERE.info("version", f"Vitess {shown} is newer than this tap knows")
    else:
        yield _HERE.ok("version", f"Vitess {shown}")
    for problem in _PROBLEMS:
        if has(found, problem):
            yield _HERE.warning("version", f"{shown}: {problem.what}", problem.advice)


def has(found: Version, problem: Problem) -> bool:
    """Return whether a version has a problem."""
    of_line = [right for right in problem.right if right[0] == found[0]]
    return found < (of_line or sorted(problem.right))[0]


def keyspaces(wanted: Iterable[str], known: Collection[str]) -> Iterator[Finding]:
    """Judge whether the keyspaces of the settings, catalog and state exist."""
    for name in sorted(set(wanted) - set(known)):
        yield Place(name).error(
            "keyspace",
            f"VTGate does not know this keyspace; it knows {', '.join(sorted(known)) or 'none'}",
            "check the setting keyspaces, the catalog and the state",
        )


# A keyspace's shards


def tablets(
    keyspace: str, shards: Sequence[str], found: Sequence[Tablet], config: Config
) -> Iterator[Finding]:
    """Judge whether each shard has a tablet of the configured type, in the configured cells."""
    kind = config.tablet_type
    cells = config.cells if kind != "PRIMARY" else ()
    if not shards:
        yield Place(keyspace).error("tablets", "the keyspace has no shard that serves")
        return
    fit = [t for t in found if t.tablet_type == kind and (not cells or t.cell in cells)]
    where = f" in {', '.join(cells)}" if cells else ""
    serving = {tablet.shard for tablet in fit if tablet.state == "SERVING"}
    for shard in sorted(set(shards) - serving):
        there = ", ".join(f"{t} in {t.cell}" for t in found if t.shard == shard)
        yield Place(keyspace, shard).error(
            "tablets",
            f"no {kind} tablet serves{where}; VTGate sees {there or 'no tablet'}",
            "start one, or change the settings tablet_type and cells",
        )
    if serving.issuperset(shards):
        types = sorted({(t.tablet_type, t.cell) for t in found})
        shown = ", ".join(
            f"{sum((t.tablet_type, t.cell) == pair for t in found)} {pair[0]} in {pair[1]}"
            for pair in types
        )
        yield Place(keyspace).ok("tablets", f"shards {', '.join(shards)}; tablets: {shown}")


def vschema(
    keyspace: str, shards: Sequence[str], told: Mapping[str, Keyspace]
) -> Iterator[Finding]:
    """Judge whether the VSchema lets VTGate look for a row on more than one shard."""
    if len(shards) > 1 and keyspace in told and not told[keyspace].sharded:
        yield Place(keyspace).error(
            "vschema",
            f"it has {len(shards)} shards, and its VSchema does not say that it is sharded: VTGate "
            "answers no question about all of it, and a run ends",
            "apply a VSchema that says so, with the tables' vindexes (vtctldclient ApplyVSchema)",
        )


def shard(
    keyspace: str, facts: ShardFacts, vitess: Version | None, skew: float, config: Config
) -> Iterator[Finding]:
    """Judge what a shard's MySQL writes into its binlogs, how long it keeps them, and its clock."""
    place = Place(keyspace, facts.shard)
    if facts.binlog_format != "ROW":
        yield place.error(
            "binlog",
            f"binlog_format is {facts.binlog_format}",
            "set it to ROW on the tablets' MySQL",
        )
    yield from _row_image(place, facts, vitess, config)
    yield from _retention(place, facts)
    if abs(skew) > MOST_SKEW_SECONDS:
        yield place.warning(
            "clock",
            f"this machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} "
            "MySQL's: commit and deletion times cannot be compared",
            "let both follow a time server",
        )
    kept = facts.binlog_expire_seconds
    yield place.ok(
        "shard",
        f"MySQL {facts.mysql_version}, binlog format {facts.binlog_format}, row image "
        f"{facts.row_image}, binlogs {f'kept for {duration(kept)}' if kept else 'never expire'}",
    )


_PARTIAL = {
    "fetch": (INFO, "such values are fetched by key as they are now"),
    "omit": (WARNING, "records leave such columns out, which many targets take for null"),
    "fail": (ERROR, "such changes end a table's run"),
}


def _row_image(
    place: Place, facts: ShardFacts, vitess: Version | None, config: Config
) -> Iterator[Finding]:
    severity, effect = _PARTIAL[config.on_partial_image]
    if facts.row_image == "MINIMAL":
        yield place.error(
            "row_image",
            "binlog_row_image is MINIMAL, which VStream cannot read",
            "set it to FULL on the tablets' MySQL",
        )
    elif facts.row_image != "FULL":
        yield place.finding(
            severity,
            "row_image",
            f"binlog_row_image is {facts.row_image}: updates do not carry the TEXT and BLOB "
            f"columns they leave alone; {effect} (on_partial_image)",
            "set it to FULL on the tablets' MySQL",
        )
    if "PARTIAL_JSON" not in facts.row_value_options:
        return
    if vitess is None or vitess < READS_PARTIAL_JSON:
        yield place.error(
            "row_value_options",
            "binlog_row_value_options has PARTIAL_JSON: before Vitess 22, every update is LOST "
            "silently, of tables without JSON too",
            "set it to '' on the tablets' MySQL, or upgrade; then copy all tables again",
        )
    else:
        yield place.finding(
            severity,
            "row_value_options",
            "binlog_row_value_options has PARTIAL_JSON: updates of a part of a JSON document do "
            f"not carry the document; {effect} (on_partial_image)",
            "set it to '' on the tablets' MySQL",
        )


def _retention(place: Place, facts: ShardFacts) -> Iterator[Finding]:
    if 0 < facts.binlog_expire_seconds < SHORT_RETENTION_SECONDS:
        kept = duration(facts.binlog_expire_seconds)
        yield place.warning(
            "retention",
            f"binlogs are kept for {kept} only: a bookmark that is older is lost",
            f"run more often than every {kept}, or raise binlog_expire_logs_seconds",
        )


def throttling(keyspace: str, found: Throttling) -> Iterator[Finding]:
    """Judge whether a shard's throttler holds streams back."""
    place = Place(keyspace, found.shard)
    if not found.enabled:
        return
    held = {app: found.apps[app] for app in STREAMING_APPS if found.apps.get(app, 0) > 0}
    for app, ratio in held.items():
        yield place.warning(
            "throttler",
            f"the throttler holds back the app {app} ({ratio:.0%}): "
            f"{'copies' if app == 'rowstreamer' else 'streams'} stand still or crawl",
            f"vtctldclient UpdateThrottlerConfig --unthrottle-app {app} {keyspace}",
        )
    if not held:
        yield place.info("throttler", "the throttler is on: streams wait while replicas lag")


def stream(keyspace: str, silent: Collection[str], seconds: float) -> Iterator[Finding]:
    """Judge whether each shard answered a VStream within some seconds."""
    for name in sorted(silent):
        yield Place(keyspace, name).error(
            "stream",
            f"a VStream got no answer from this shard within {seconds:g} s",
            "look for its tablets, their throttler, and VTGate's log",
        )
    if not silent:
        yield Place(keyspace).ok("stream", "a VStream opens on every shard")
