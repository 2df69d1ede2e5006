"""What a run asks and waits for before it streams: shards, stop position, whether a bookmark holds.

It waits for each answer, and retries temporary faults. `diagnosis.py` finds out why nothing comes;
`survey/telling.py` logs what is only worth a warning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from tap_vitess.config import Keys
from tap_vitess.errors import ConfigError, RequestError, RetriableError, ShardsGoneError
from tap_vitess.log import logger_of
from tap_vitess.protocol.items import Fields
from tap_vitess.protocol.request import RequestOptions
from tap_vitess.protocol.statements import Effects, changed_tables
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.survey import keyspace as ks
from tap_vitess.survey import tables
from tap_vitess.survey.bookmark import FOLLOWS_OLD_SHARDS, READS_PARTIAL_JSON, check_shards, judge
from tap_vitess.survey.charsets import ColumnCharsets, with_others
from tap_vitess.survey.discovery import describe
from tap_vitess.survey.facts import ShardFacts, Table, Version, none_of_type
from tap_vitess.survey.keyspace import Asking, P, Survey, T
from tap_vitess.survey.probe import check_cells
from tap_vitess.vtgate.grpc import Client
from tap_vitess.vtgate.retry import Answer, RetryOptions, Stopping, retrying

logger = logger_of(__name__)

_EFFECTS_SECONDS = 10.0  # views and triggers are read again after this
IMAGE_SECONDS = 10.0  # so is how MySQL logs images


class Inquiry:
    """Asks on behalf of one run over one keyspace."""

    def __init__(self, survey: Survey, retry: RetryOptions, stopping: Stopping) -> None:
        self.keyspace = survey.keyspace
        self.ranges = survey.ranges
        self._survey = survey
        self._retry = retry
        self._stopping = stopping
        self._facts: dict[str, ShardFacts] = {}
        self._not_resumable: Mapping[str, str] | None = None
        self._answered = False
        self._effects: Effects = ()
        self._effects_until = 0.0
        self._unlocated: float | None = None  # since when no tablet has reported a position
        self.charsets = ColumnCharsets(self.version, self._column_charsets)
        self._whole: dict[tuple[str, str], tuple[Fields, Fields]] = {}
        self._whole_keys: dict[str, tuple[bool | None, float]] = {}  # until when

    def _patiently(self, what: str, ask: Callable[[], Answer]) -> Answer:
        answer = retrying(what, ask, self._retry, self._stopping, reached=self._answered)
        self._answered = True
        return answer

    def _ask(self, what: str, question: Asking[P, T], *args: P.args, **named: P.kwargs) -> T:
        return self._patiently(what, lambda: self._survey.ask(question, *args, **named))

    def version(self) -> Version | None:
        """Ask for VTGate's version; None if it does not say."""
        return self._ask("the version of VTGate", ks.version)

    def described(self, names: Collection[str], keys: Keys) -> dict[str, Table]:
        """Describe those of `names` that exist."""
        found = self._ask(f"the tables of {self.keyspace}", describe, keys)
        return {table.name: table for table in found if table.name in names}

    def columns_everywhere(self, table: str) -> frozenset[str]:
        """Return the columns that a table has on every shard."""
        what = f"the columns of {self.keyspace}.{table}"
        return self._ask(what, tables.columns_everywhere, table)

    def whole(self, fields: Fields) -> Fields:
        """Return a FIELD event with the table's other columns, if not all were requested.

        They are read by SQL after the event, so they are never older, and once for each event.
        """
        if not fields.projected:
            return fields
        where = fields.table, fields.shard
        found = self._whole.get(where)
        if found is None or found[0] is not fields:
            what = f"the columns of {self.keyspace}.{fields.table} on shard {fields.shard}"
            columns = self._ask(what, tables.columns, fields.shard, fields.table)
            found = self._whole[where] = fields, with_others(fields, columns)
        return found[1]

    def _column_charsets(self, shard: str, table: str) -> dict[str, str]:
        what = f"the charsets of {self.keyspace}.{table} on shard {shard}"
        return self._ask(what, tables.column_charsets, shard, table)

    def position(self) -> Vgtid:
        """Ask for the keyspace's position; after a first answer, its absence is a passing fault.

        Raises:
            ConfigError: no tablet is of the requested type.
        """
        return self._patiently(f"the position of {self.keyspace}", self._located)

    def _located(self) -> Vgtid:
        try:
            found = self._survey.ask(ks.position)
        except RetriableError as error:
            self._unlocated = self._unlocated or time.monotonic()
            # Later, a keyspace may be without a primary for a while.
            if self._survey.tablet_type != "PRIMARY" or not self._answered:
                self._check_type()
            raise error from None
        self._unlocated = None
        return found

    def _check_type(self) -> None:
        """Check that there are tablets of the requested type, once VTGate has had some time."""
        settled = (self._unlocated or 0.0) + min(self._retry.settle, self._retry.budget)
        if time.monotonic() < settled:
            return
        if why := none_of_type(self._survey.ask(ks.tablets), self._survey.tablet_type):
            raise ConfigError(f"keyspace {self.keyspace}: {why}")

    def check_cells(self, client: Client, options: RequestOptions) -> None:
        """Check that streams find tablets in the requested cells; see `probe.check_cells`."""
        if options.cells and options.tablet_type != "PRIMARY":
            found = self._ask(f"the tablets of {self.keyspace}", ks.tablets)
            alone = bool(self.ranges.names)
            check_cells(
                client, self.keyspace, found, lambda: self.position().shards, options, alone=alone
            )

    def stop_position(self) -> Vgtid:
        """Ask for the keyspace's position, and check that a stream can be followed to it.

        Raises:
            GtidError: a shard's MySQL has no GTIDs.
        """
        now = self.position()
        if bare := [shard for shard, gtids in now.shards.items() if not gtids.intervals]:
            self._ask_facts(bare)
        return now

    def _ask_facts(self, shards: Collection[str]) -> dict[str, ShardFacts]:
        return self._ask(f"the binlogs of {self.keyspace}", ks.facts, shards)

    def why_not_resumable(self, table: str) -> str:
        """Return why a table's copy cannot be resumed by its key; empty if it can be.

        The FIELD event of a copy has types, but neither prefixes nor directions.
        """
        if self._not_resumable is None:
            what = f"the keys of {self.keyspace}"
            self._not_resumable = self._ask(what, tables.not_resumable)
        return self._not_resumable.get(table, "")

    def whole_rows(self, shard: str) -> bool:
        """Return whether a shard is known to log every column of every row."""
        return shard in self._facts and self._facts[shard].whole_rows

    def whole_keys(self, shard: str) -> bool | None:
        """Return whether a shard's MySQL logs the key with every image; None if it does not answer.

        It is asked again after some seconds, because the setting may change in a long run.
        """
        found = self._whole_keys.get(shard)
        if found is None or time.monotonic() >= found[1]:
            answers = self._ask_facts([shard])
            whole = answers[shard].row_image == "FULL" if shard in answers else None
            found = self._whole_keys[shard] = whole, time.monotonic() + IMAGE_SECONDS
        return found[0]

    def check(self, position: Vgtid, serving: Collection[str], copied: float = 0.0) -> None:
        """Check that a run can resume from a bookmark, before asking VTGate to.

        Args:
            copied: when a copy of its tables began, in seconds since 1970.

        Raises:
            PositionLostError: it cannot.
            RequestError: the changes after it cannot be read without loss.
        """
        check_shards(position, serving, self.ranges)
        if old := sorted(position.shards.keys() - set(serving)):
            self._check_follows(old)
        facts = self._ask_facts(position.shards)
        self._facts |= facts
        self._check_partial_json(facts)
        verdict = judge(position, facts, self._survey.tablet_type, copied)
        for warning in verdict.warnings:
            logger.warning("%s: %s", self.keyspace, warning)
        if error := verdict.error(self.keyspace):
            raise error

    def _check_follows(self, old: Sequence[str]) -> None:
        version = self.version()
        if version is not None and version < FOLLOWS_OLD_SHARDS:
            raise ShardsGoneError(
                f"{self.keyspace}: shards {', '.join(old)} of the bookmark were resharded, and "
                f"Vitess {'.'.join(map(str, version))} cannot follow from shards that no longer "
                "serve; upgrade VTGate and tablets to 20 while they are kept, or set "
                "on_lost_position to `resync` for a run to copy its tables again"
            )

    def _check_partial_json(self, facts: dict[str, ShardFacts]) -> None:
        """Refuse all tables: the option changes how MySQL logs every update, even without JSON."""
        partial = sorted(s for s, found in facts.items() if found.row_value_options)
        if not partial:
            return
        version = self.version()
        if version is not None and version < READS_PARTIAL_JSON:
            raise RequestError(
                f"{self.keyspace}: MySQL logs partial JSON on shards {', '.join(partial)}, and "
                f"Vitess {'.'.join(map(str, version))} loses every update then, of tables without "
                "JSON too: empty binlog_row_value_options on the tablets' MySQL and copy the "
                "tables again, or upgrade Vitess to 22"
            )

    def changed(self, statements: Collection[str], among: frozenset[str]) -> frozenset[str]:
        """Return the tables that statements without row events may have changed."""
        if statements and time.monotonic() >= self._effects_until:
            what = f"the views and triggers of {self.keyspace}"
            self._effects = self._ask(what, tables.effects)
            self._effects_until = time.monotonic() + _EFFECTS_SECONDS
        return changed_tables(statements, self._effects, among)
