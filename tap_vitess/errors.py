"""Every error this package raises on purpose, by who must act and what is done about it.

    VitessError     base; the message says what happened, where, and what to do
      the user's    ConfigError, CatalogError (MappingError), StateError, ConnectError
                    (ConnectionLostError), AuthError
      for good      RequestError: VTGate or MySQL refuses what was asked, and would again:
                    TableGoneError, KeyChangedError, StuckError, GtidError, BorderError, and
                    PositionLostError, which needs a new copy (ShardsGoneError with
                    ParticipantsMissingError, HistoryLostError with ColumnsUnknownError and
                    ColumnGoneError, UnreadableError)
      passing       RetriableError: worth another try from the last boundary: NoTabletError,
                    TableUnseenError, StalledError, StumbleError, SnapshotTooOldError
      a copy's own  CopyCutError (ReshardedError)
      the data's    ProtocolError, ValueDecodeError
      another's     TargetClosedError, FencedError

Each kind has a `remedy`: STOP with the message's advice; RETRY, by opening the call again at the
last boundary; LOOK, which is RETRY after a look at the cluster by SQL, so that a permanent fault is
reported as what it is; POLICY, where the setting on_lost_position decides; RESTART of the one copy.
Messages name keyspace, shard, table and column, never a row's values and never credentials.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import ClassVar, Self

from tap_vitess.codes import code_of, coded

_LONG_WORD = re.compile(r"\S{500,}")
_LONGEST, _END = 20_000, 5_000  # characters of a text, and of its end if it is cut


def shown(text: str) -> str:
    """Return text as any terminal and log can show it, on one line.

    It may hold names that come from a server: control characters are escaped, and what is too long
    to be a name is shortened.
    """
    if not text.isprintable():
        text = "".join([c if c.isprintable() else ascii(c)[1:-1] for c in text])
    text = _LONG_WORD.sub(_shortened, text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - _END]}… …{text[-_END:]}"


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:200]}… ({len(word[0]):,} characters)"


class Remedy(Enum):
    """What is done about an error."""

    STOP = "stop"
    RETRY = "retry"
    LOOK = "look and retry"
    POLICY = "on_lost_position"
    RESTART = "copy again"


class VitessError(Exception):
    """Base of all errors that are meant for the person who runs the tap.

    table: the bare name of the one table that it concerns, if that is known. shard: the same for a
    shard.
    """

    remedy: ClassVar[Remedy] = Remedy.STOP

    def __init__(self, message: str, *, table: str | None = None, shard: str | None = None) -> None:
        super().__init__(shown(message))
        self.table = table
        self.shard = shard

    def reworded(self, message: str) -> Self:
        """Return the same error with another message."""
        return type(self)(message, table=self.table, shard=self.shard)

    @property
    def code(self) -> str | None:
        """The code that finds the message in docs/troubleshooting.md, such as `TV017`."""
        return code_of(str(self))

    def coded(self) -> str:
        """Return the message and its code, for the last line that a user sees."""
        return coded(str(self))

    def within(self, where: str) -> str:
        """Return the message for a line that begins with `where`, without saying it twice.

        `where` is a keyspace, ends with one, or is what the message begins with.
        """
        found = str(self)
        for name in (where, where.rpartition(" ")[2]):
            found = found.removeprefix(f"keyspace {name}: ").removeprefix(f"{name}: ")
        return found


class ConfigError(VitessError):
    """A setting is wrong or does not fit the server."""


class CatalogError(VitessError):
    """The catalog does not fit the database."""


class MappingError(CatalogError):
    """The columns of a row do not match the fields of its class."""


class StateError(VitessError):
    """The bookmark is broken, of an unknown version, or does not fit the request."""


class ConnectError(VitessError):
    """The server cannot be reached, or what answers is not a VTGate."""


class ConnectionLostError(ConnectError):
    """An established connection broke off; the question is worth asking again."""


class AuthError(VitessError):
    """The server refuses the user or the password."""


class RequestError(VitessError):
    """The server refuses the request, and would refuse it again."""


class TableGoneError(RequestError):
    """A table does not exist (any more), or not on every shard."""

    remedy = Remedy.LOOK


class PositionLostError(RequestError):
    """The server no longer has the changes that follow a position."""

    remedy = Remedy.POLICY


class ShardsGoneError(PositionLostError):
    """The request names shards that no longer exist, or only some of those resharded together."""


class ParticipantsMissingError(ShardsGoneError):
    """Shards were resharded together, and the request names some of them only."""

    remedy = Remedy.LOOK


class BorderError(RequestError):
    """A shard is partly within the setting shards, and partly outside."""


class HistoryLostError(PositionLostError):
    """The changes of one table cannot be read from a position, because it was altered since."""


class ColumnsUnknownError(HistoryLostError):
    """Rows have more columns than Vitess knows: some were dropped since, or MySQL hides some."""

    remedy = Remedy.LOOK


class ColumnGoneError(HistoryLostError):
    """A requested column, or one that a filter names, does not exist (any more)."""


class UnreadableError(PositionLostError):
    """Vitess can never read or send a transaction that follows a position."""


class StuckError(RequestError):
    """A call ends at the same place again and again, and always will."""


class KeyChangedError(RequestError):
    """The key of a table was altered while it was copied."""

    remedy = Remedy.RESTART


class GtidError(RequestError):
    """A shard's positions are not GTIDs, or not GTIDs that Vitess can read."""


class RetriableError(VitessError):
    """A temporary fault: the call is worth opening again from the last boundary."""

    remedy = Remedy.RETRY


class NoTabletError(RetriableError):
    """No tablet serves a shard, or no tablet has the requested position."""

    remedy = Remedy.LOOK


class TableUnseenError(RetriableError):
    """A tablet does not know a table yet that its MySQL has, as after a failover."""


class StalledError(RetriableError):
    """A stream delivers nothing but heartbeats."""

    remedy = Remedy.LOOK


class StumbleError(RetriableError):
    """VTGate or a tablet stumbles over what it reads or sends."""

    remedy = Remedy.LOOK


class SnapshotTooOldError(RetriableError):
    """A copy's snapshot does not contain the position of the shared stream."""


class ProtocolError(VitessError):
    """The server's answer contradicts what VStream promises."""


class CopyCutError(VitessError):
    """A copy was cut and cannot be resumed: it must start over."""

    remedy = Remedy.RESTART


class ReshardedError(CopyCutError):
    """A copy met other shards than those it began on."""


class TargetClosedError(VitessError):
    """The other end of the pipe is gone."""


class FencedError(VitessError):
    """The row of the mirror, or of a consumer's state, belongs to another run."""


class ValueDecodeError(VitessError):
    """The bytes of a value do not fit the type of their column."""
