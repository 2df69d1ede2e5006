"""Every error this package raises on purpose, by whose fault it is and what to do.

    VitessError              base; the message says what happened, where, and what to do
      ConfigError            a setting is wrong: mend it
      CatalogError           the catalog does not fit the database: discover again
      StateError             the bookmark cannot be read or does not fit: see the message
      ConnectError           nothing answers, or it is not a VTGate: check host, ports, TLS
      AuthError              the user or password was refused
      RequestError           VTGate or MySQL refuses what was asked; trying again will not help
        PositionLostError    the binlogs after the bookmark are gone: a new copy is needed
          ShardsGoneError    the request names shards that are no longer there
        KeyChangedError      a lastpk does not fit the table's key any more
      RetriableError         a passing fault: worth another try from the last boundary
        SnapshotTooOldError  a copy was offered from a tablet that lags behind the bookmark
      ProtocolError          the server's answer contradicts what VStream promises
      CopyCutError           a copy that cannot be resumed was cut: it starts again
        ReshardedError       the shards are no longer those the copy was begun on
      ValueDecodeError       a value does not fit its column's type
      TargetClosedError      nobody reads the tap's output any more

Messages name keyspace, shard, table and column, never a row's values and never credentials.
"""

from __future__ import annotations


class VitessError(Exception):
    """Base of all errors that are meant for the person who runs the tap."""


class ConfigError(VitessError):
    """A setting is wrong or does not fit the server."""


class CatalogError(VitessError):
    """The catalog does not fit the database."""


class StateError(VitessError):
    """The bookmark is broken, of an unknown version, or does not fit the request."""


class ConnectError(VitessError):
    """The server cannot be reached, or what answers is not a VTGate."""


class AuthError(VitessError):
    """The server refuses the user or the password."""


class RequestError(VitessError):
    """The server refuses the request, and would refuse it again."""


class PositionLostError(RequestError):
    """The server no longer has the changes that follow a position."""


class ShardsGoneError(PositionLostError):
    """The request names shards that no longer exist, or not all that are resharded."""


class KeyChangedError(RequestError):
    """The key of a table was altered while it was copied."""


class RetriableError(VitessError):
    """A passing fault: the call is worth opening again from the last boundary."""


class SnapshotTooOldError(RetriableError):
    """A copy's snapshot does not contain the position of the shared stream."""


class ProtocolError(VitessError):
    """The server's answer contradicts what VStream promises."""


class CopyCutError(VitessError):
    """A copy was cut and cannot go on where it was: it must start again."""


class ReshardedError(CopyCutError):
    """A copy met shards other than those it was begun on."""


class TargetClosedError(VitessError):
    """The other end of the pipe is gone."""


class ValueDecodeError(VitessError):
    """The bytes of a value do not fit the type of their column."""
