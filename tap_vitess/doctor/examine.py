"""Asks VTGate for everything that the doctor reports; the judge modules assess the answers.

A question that fails becomes a finding, and the next one is asked. Each opens a new connection, so
a question that hangs or breaks its connection does not affect later ones.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tap_vitess.config import Config
from tap_vitess.doctor import judge_cluster, judge_state, judge_tables
from tap_vitess.doctor.findings import Finding, Place
from tap_vitess.errors import ConfigError, StateError, VitessError
from tap_vitess.run.state import KeyspaceState, bookmark_key, parse
from tap_vitess.survey import discovery, tables, vschema
from tap_vitess.survey import keyspace as ks
from tap_vitess.survey.blockers import throttling
from tap_vitess.survey.cascades import told
from tap_vitess.survey.facts import ShardFacts, Table, Tablet, Version
from tap_vitess.survey.identity import Key
from tap_vitess.survey.keyspace import Asking, KeyspaceSql, P, Survey, T
from tap_vitess.survey.probe import silent_shards
from tap_vitess.vtgate import grpc as vstream_client
from tap_vitess.vtgate.mysql import quote

Selected = Mapping[str, Mapping[str, Key]]  # keyspace -> selected table -> its key

_HERE = Place()
_BOOKMARK = bookmark_key("")


def examine(
    config: Config, selected: Selected | None = None, bookmarks: Mapping[str, Any] | None = None
) -> list[Finding]:
    """Ask and judge everything; a question that fails is a finding, too."""
    examination = _Examination(config, selected, bookmarks or {})
    examination.run()
    return examination.findings


def failed(check: str, error: VitessError, place: Place = _HERE) -> Finding:
    """Make a finding from an error, whose message says what to do."""
    return place.error(check, error.within(place.keyspace or ""))


class _UnreachableError(Exception):
    """The MySQL port cannot be connected to; the cause says why."""

    def __init__(self, cause: VitessError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Examination:
    def __init__(
        self, config: Config, selected: Selected | None, bookmarks: Mapping[str, Any]
    ) -> None:
        self.findings: list[Finding] = []
        self._config = config
        self._selected = selected
        self._version: Version | None = None
        self._states = self._parsed(bookmarks)

    def run(self) -> None:
        self._note(judge_cluster.transport(self._config))
        streams = self._try_grpc()
        try:
            self._ask_sql(streams=streams)
        except _UnreachableError as error:
            self._note([failed("mysql", error.cause)])
            if streams:
                self._try_named_streams()

    def _note(self, findings: Iterable[Finding]) -> None:
        self.findings.extend(findings)

    def _ask(
        self,
        check: str,
        place: Place,
        survey: Survey,
        question: Asking[P, T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T | None:
        """Return the answer; if the question fails, note a finding and return None."""
        opened = False
        try:
            with survey.connected() as at:
                opened = True
                return question(at, *arguments, **named)
        except VitessError as error:
            if not opened:
                raise _UnreachableError(error) from error
            self._note([failed(check, error, place)])
        return None

    # The two ports

    def _try_grpc(self) -> bool:
        try:
            with vstream_client.connect(self._config):
                pass
        except VitessError as error:
            self._note([failed("grpc", error)])
            return False
        where = self._config.at(self._config.grpc_port)
        self._note([_HERE.ok("grpc", f"the gRPC port {where} answers")])
        return True

    def _ask_sql(self, *, streams: bool) -> None:
        survey = self._survey("")
        known = self._ask("mysql", _HERE, survey, lambda at: discovery.keyspaces_of(at.sql))
        if known is None:
            return
        where = self._config.at(self._config.mysql_port)
        self._note([_HERE.ok("mysql", f"the MySQL port {where} answers")])
        self._version = self._ask("version", _HERE, survey, ks.version)
        self._note(judge_cluster.version(self._version))
        wanted = self._keyspaces(known)
        self._note(judge_cluster.keyspaces(wanted, known))
        there = sorted(wanted & set(known))
        described = {keyspace: self._keyspace(keyspace, streams=streams) for keyspace in there}
        tables = [table for found in described.values() for table in found or ()]
        if self._selected is None and None not in described.values():
            self._check_patterns(tables)
        self._note(judge_tables.left_out(discovery.unmatched(tables, known, self._config)))
        self._note(judge_tables.streams(filter(self._wants, tables), self._config))
        if None not in described.values():
            read = filter(self._wants, tables)
            self._note(judge_tables.filters(read, self._config.filters, self._version))

    def _keyspaces(self, known: Collection[str]) -> set[str]:
        """Return the keyspaces to examine: those of the catalog or settings, and the state's."""
        if self._selected is not None:
            return {*self._selected, *self._states}
        named = self._config.keyspaces
        among = known if named is None else named
        # Missing keyspaces are reported whatever the patterns say, as in discovery.
        may_be_read = (ks for ks in among if ks not in known or self._config.may_want(ks))
        return {*may_be_read, *self._states}

    def _check_patterns(self, found: Sequence[Table]) -> None:
        try:
            discovery.choose(found, dict.fromkeys(t.keyspace for t in found), self._config)
        except ConfigError as error:
            self._note([failed("config", error)])

    # One keyspace

    def _keyspace(self, keyspace: str, *, streams: bool) -> Sequence[Table] | None:
        """Examine a keyspace; return its tables, or None if they could not be read."""
        place, survey = Place(keyspace), self._survey(keyspace)
        shards = self._ask("shards", place, survey, ks.shards)
        tablets = self._ask("tablets", place, survey, ks.tablets)
        if shards is not None and tablets is not None:
            self._note(judge_cluster.tablets(keyspace, shards, tablets, self._config))
        if shards and (told := self._ask("vschema", place, survey, vschema.described)):
            self._note(judge_cluster.vschema(keyspace, shards, told))
        if streams and shards:
            self._try_stream(keyspace, shards)
        primaries = {t.shard for t in tablets or () if t.tablet_type == "PRIMARY"}
        facts = {
            shard: self._shard(survey, shard, throttler=shard in primaries)
            for shard in shards or ()
        }
        survey = self._survey(keyspace, self._type_to_ask(tablets or ()))
        described = self._ask("tables", place, survey, discovery.describe, self._config.keys)
        if described is not None:
            self._tables(survey, described)
        if keyspace in self._states and shards is not None:
            known = {shard: found for shard, found in facts.items() if found is not None}
            self._bookmark(self._states[keyspace], shards, tablets or (), known)
        if keyspace in self._states and described is not None:
            names = [table.name for table in described]
            chosen = [table.name for table in described if self._wants(table)]
            self._note(judge_state.followed(self._states[keyspace], names, chosen))
        return described

    def _survey(self, keyspace: str, tablet_type: str | None = None) -> Survey:
        kind = tablet_type or self._config.tablet_type
        return Survey(self._config, keyspace, kind, self._config.ranges)

    def _type_to_ask(self, tablets: Iterable[Tablet]) -> str:
        """Return the tablet type to describe tables by: PRIMARY if no configured one serves."""
        serving = {tablet.tablet_type for tablet in tablets if tablet.state == "SERVING"}
        kind = self._config.tablet_type
        return "PRIMARY" if kind not in serving and "PRIMARY" in serving else kind

    def _shard(self, survey: Survey, shard: str, *, throttler: bool) -> ShardFacts | None:
        """Examine a shard; throttler: ask for it, too, which only a primary can answer."""
        keyspace, place = survey.keyspace, Place(survey.keyspace, shard)
        answer = self._ask("shard", place, survey, _timed_facts, shard)
        if throttler and (found := self._ask("throttler", place, survey, throttling, shard)):
            self._note(judge_cluster.throttling(keyspace, found))
        if answer is None:
            return None
        facts, skew = answer
        self._note(judge_cluster.shard(keyspace, facts, self._version, skew, self._config))
        return facts

    def _tables(self, survey: Survey, found: Sequence[Table]) -> None:
        keyspace, place = survey.keyspace, Place(survey.keyspace)
        chosen = [table for table in found if self._wants(table)]
        names = [table.name for table in chosen]
        selected = None if self._selected is None else self._selected.get(keyspace, {})
        self._note(judge_tables.tables(keyspace, selected, found, chosen))
        self._note(judge_tables.keys(chosen, selected or {}, self._config.keys))
        if why := self._ask("copy", place, survey, tables.not_resumable):
            counts = self._ask("copy", place, survey, tables.row_counts, why) or {}
            self._note(judge_tables.copies(keyspace, chosen, why, counts))
        texts = self._ask("charset", place, survey, tables.texts) or ()
        self._note(judge_tables.columns(keyspace, chosen, texts, self._version))
        routed = self._ask("moved", place, survey, tables.routed, names) or {}
        self._note(judge_tables.routed(keyspace, routed))
        cascades = self._ask("cascade", place, survey, tables.cascades) or ()
        self._note(judge_tables.cascades(keyspace, told(cascades, names)))
        refused = self._ask("select", place, survey, _refused, names)
        self._note(judge_tables.unreadable(keyspace, refused or {}))

    def _wants(self, table: Table) -> bool:
        if self._selected is not None:
            return table.name in self._selected.get(table.keyspace, ())
        named = self._config.keyspaces
        return (named is None or table.keyspace in named) and self._config.wants(
            table.keyspace, table.name
        )

    # Streams

    def _try_stream(self, keyspace: str, shards: Iterable[str]) -> None:
        seconds = self._config.connect_timeout_seconds
        options = self._config.request
        try:
            with vstream_client.connect(self._config) as client:
                alone = bool(self._config.shards)
                silent = silent_shards(client, keyspace, shards, options, seconds, alone=alone)
        except VitessError as error:
            self._note([failed("stream", error, Place(keyspace))])
            return
        self._note(judge_cluster.stream(keyspace, silent, seconds))

    def _try_named_streams(self) -> None:
        """Try the keyspaces of the state, whose shards are known without SQL."""
        for keyspace, state in sorted(self._states.items()):
            self._try_stream(keyspace, {s for g in state.groups for s in g.position.shards})

    # The state

    def _parsed(self, bookmarks: Mapping[str, Any]) -> dict[str, KeyspaceState]:
        states: dict[str, KeyspaceState] = {}
        for key, value in sorted(bookmarks.items()):
            if key.startswith(_BOOKMARK):
                keyspace = key.removeprefix(_BOOKMARK)
                try:
                    states[keyspace] = parse(keyspace, value)
                except StateError as error:
                    self._note([failed("state", error, Place(keyspace))])
        return states

    def _bookmark(
        self,
        state: KeyspaceState,
        shards: Sequence[str],
        tablets: Sequence[Tablet],
        facts: Mapping[str, ShardFacts],
    ) -> None:
        self._note(judge_state.bookmark(state, shards, tablets, facts, self._config))
        self._note(judge_state.unfinished(state))


def _timed_facts(at: KeyspaceSql, shard: str) -> tuple[ShardFacts, float]:
    """Return a shard's facts, and the least number of seconds by which its clock is ahead."""
    before = time.time()
    facts = ks.shard_facts(at, shard)
    after = time.time()
    return facts, facts.clock - min(max(facts.clock, before), after)


def _refused(at: KeyspaceSql, names: Iterable[str]) -> dict[str, str]:
    """Try to read one row of each table; return why not, by table."""
    found: dict[str, str] = {}
    for table in names:
        name = f"{quote(at.keyspace)}.{quote(table)}"
        try:
            at.anywhere().query(f"select 1 from {name} limit 1")  # noqa: S608
        except VitessError as error:
            found[table] = str(error)
    return found
