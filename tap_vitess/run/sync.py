"""The run of one keyspace: stream, copy, stream. It knows nothing of Singer.

Two rules carry everything:

1. Every change after the position S reaches the target through one shared stream.
2. Every row is copied from a snapshot that is not older than S.

So a run streams the tables whose copy has begun from S to the keyspace's present position, copies
what is not copied yet, and streams once more if anything was copied. At any moment, `state` may be
stored once everything yielded so far has been written.

With `follow` a run does not end there but stays in the shared stream. It ends at any error, because
an endless run would hide it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable

from tap_vitess.errors import ValueDecodeError, VitessError
from tap_vitess.run.copies import Copies, CopyFaultError
from tap_vitess.run.diagnosis import Diagnosis
from tap_vitess.run.inquiry import Inquiry
from tap_vitess.run.pace import Output, Outputs, Pace, SyncOptions
from tap_vitess.run.parts import Parts, TableSpec
from tap_vitess.run.shared import SharedStream
from tap_vitess.run.state import KeyspaceState
from tap_vitess.survey.keyspace import Survey
from tap_vitess.survey.telling import Telling
from tap_vitess.vtgate.grpc import Client


class KeyspaceSync:
    """One run over one keyspace. Read `events` to the end; `parts.state` advances with it.

    parts: each table's part in the run. pace: what the run is doing, and whether it must end.
    """

    def __init__(
        self,
        client: Client,
        survey: Survey,
        tables: Iterable[TableSpec],
        state: KeyspaceState,
        options: SyncOptions,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare a run.

        Args:
            tables: what to read; all other tables of the state keep their position.
            state: where the last run ended.
            stopping: asked at every boundary; True ends the run there.
        """
        self.keyspace = state.keyspace
        self._options = options
        self._inquiry = Inquiry(survey, options.retry, stopping)
        self._telling = Telling(survey, stopping)
        diagnosis = Diagnosis(survey, options.retry, stopping)
        self.pace = Pace(client, options, stopping)
        self.parts = Parts(tables, state, self._inquiry, options)
        self._shared = SharedStream(self.parts, self._inquiry, diagnosis, self.pace)
        self._copies = Copies(self.parts, self._inquiry, diagnosis, self.pace)
        self._ended = False
        self.whole_rows = self._inquiry.whole_rows
        self.whole_keys = self._inquiry.whole_keys

    def brought(self, table: str) -> bool:
        """Return whether all of a table has been delivered, up to where the run has ended."""
        return self._ended and not self.pace.held_up and self.parts.is_brought(table)

    def events(self) -> Outputs:
        """Run, and yield rows, finished copies and checkpoints.

        A table or group that cannot be read does not stop the others.

        Raises:
            VitessError: the run cannot continue, or it left tables behind (their first error); the
                state is still valid.
        """
        parts = self.parts
        before = parts.state.groups
        yield self.pace.checkpoint()
        self._inquiry.check_cells(self.pace.client, self._options.request)
        if parts.log_based:
            yield from self._shared.follow()
            self._telling.routed(parts.log_based)
            self._telling.cascades(parts.log_based)
        # One query for each table: too expensive for a run with nothing to do.
        setting = self._options.keys
        if setting and (parts.state.groups != before or parts.pending()):
            self._telling.keys({s.name: s.key for s in parts.specs.values() if s.key}, setting)
        yield from self._copy_and_follow()
        # What is not copied in this run is copied in the next.
        while (
            self._options.follow
            and not self.pace.stopped
            and parts.groups()
            and parts.are_brought()
        ):
            yield from self._shared.stay()
            yield from self._copy_and_follow()
        parts.state = parts.state.merged()
        yield self.pace.checkpoint()
        self._ended = True
        if parts.errors:
            raise parts.errors[0]

    def give_up(self, table: str, error: VitessError) -> None:
        """Give up a table whose rows cannot be processed, or copy it again, between two outputs.

        The table keeps its position: what came since its last boundary comes again.
        """
        # A change's bytes may not fit because the column was altered since; a copy's always fit.
        history = isinstance(error, ValueDecodeError) and self.pace.activity.phase == "streaming"
        self.parts.lose(frozenset({table}), error, history=history)

    def _copy_and_follow(self) -> Outputs:
        while (yield from self._copy()) and not self.pace.stopped:
            yield from self._shared.follow()  # which may find tables to copy again

    def _copy(self) -> Generator[Output, None, bool]:
        """Copy what is not copied; return whether the shared stream has to follow once more."""
        copied = False
        faults = Counter[str]()
        while (pending := self.parts.pending()) and not self.pace.stopped:
            try:
                yield from self._copies.round(pending)
            except CopyFaultError as fault:
                faults[fault.table] += 1
                if self._copies.fail(fault, count=faults[fault.table]):
                    continue
            copied = copied or any(not spec.full_table for spec in pending)
            if self.parts.log_based and self.parts.pending() and not self.pace.stopped:
                yield from self._shared.follow()
        return copied
