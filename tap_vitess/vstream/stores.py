"""Where a consumer's state is kept: a text that the consumer reads once and then replaces.

`load` also takes the state over: a table's row even from another consumer, a file only if nobody
else has it. `save` must not return before the state would survive the process.
"""

from __future__ import annotations

import fcntl
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from tap_vitess.config import Config
from tap_vitess.errors import ConfigError, FencedError, StateError
from tap_vitess.mirror import row as state_mirror
from tap_vitess.mirror.row import Claim, Place
from tap_vitess.vstream.connection import Vitess
from tap_vitess.vtgate.retry import Answer, RetryOptions, retrying

_LONGEST_NAME = 255


class StateStore(Protocol):
    """Keeps one consumer's state."""

    def load(self) -> str | None:
        """Return the state, None for a first run; from now on only this consumer writes it."""
        ...

    def save(self, state: str) -> None:
        """Store the state. It is called when `flush` has returned for all that came before it."""
        ...

    def close(self) -> None:
        """Release the state; `load` may be called again."""
        ...


class MemoryState:
    """A state that ends with the process, for tests and for tables that each start copies."""

    def __init__(self, state: str | None = None) -> None:
        """Begin with a state, if there is one."""
        self.state = state

    def load(self) -> str | None:
        return self.state

    def save(self, state: str) -> None:
        self.state = state

    def close(self) -> None:
        """Do nothing."""


class FileState:
    """A state in a file, for one process at a time.

    The file is replaced as a whole, and is on the disk when `save` returns. A file `<path>.lock`
    next to it is locked from `load` to `close`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the file; its folder must exist."""
        self._path = Path(path)
        self._lock: IO[bytes] | None = None

    def load(self) -> str | None:
        """Lock and read the file; None if it does not exist.

        Raises:
            StateError: another process, or another consumer of this one, has it.
        """
        self.close()
        lock = self._path.with_name(self._path.name + ".lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise StateError(f"{self._path}: another consumer is running with this state") from None
        self._lock = lock
        return self._path.read_bytes().decode() if self._path.exists() else None

    def save(self, state: str) -> None:
        """Replace the file."""
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("wb") as file:
            file.write(state.encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Unlock the file."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class VitessTableState:
    """A state in a table of a keyspace: one row for each name, written only by its newest consumer.

    This is the mirror's table (`tap-vitess-mirror ddl` prints its DDL, `create` creates it); its
    column `confirmed` is the state. Of two consumers with one name, the newer one wins: the older
    one's next `save` changes nothing and raises FencedError.
    """

    def __init__(
        self,
        vitess: Vitess,
        keyspace: str,
        name: str,
        *,
        table: str = "tap_vitess_state",
        retry: RetryOptions | None = None,
    ) -> None:
        """Choose the row of the state.

        Args:
            vitess: the VTGate; it may be another one than that of the tables read.
            keyspace: ideally one that is neither sharded nor read, because writes move its
                position.
            name: of the consumer; it is the row's key.
            table: the table's name.
            retry: how long passing faults are retried.

        Raises:
            ConfigError: the name does not fit the row.
        """
        if not 0 < len(name) <= _LONGEST_NAME:
            raise ConfigError(f"the name of a state has 1 to {_LONGEST_NAME} characters")
        self._config: Config = vitess.config()
        self.place = Place(keyspace, table, name, "the state in", "the argument keyspace")
        self._retry = retry or RetryOptions()
        self._claim: Claim | None = None

    def create(self) -> None:
        """Create the table, once, and its vindex in a sharded keyspace.

        Raises:
            VitessError: VTGate refuses it, or the table exists.
        """
        state_mirror.create(self._config, self.place)

    def load(self) -> str | None:
        """Take the row over, and return what the last consumer stored."""
        take = functools.partial(state_mirror.claim, self._config, self.place)
        self._claim, state = self._retrying(take)
        return state

    def save(self, state: str) -> None:
        """Store the state.

        Raises:
            FencedError: a newer consumer of this name has taken over.
            VitessError: it could not be stored, or may have been.
        """
        if self._claim is None:
            raise FencedError(f"{self.place}: {self.place.name} was not loaded, or was closed")
        self._retrying(functools.partial(self._claim.confirm, state))

    def close(self) -> None:
        """Write no more; the row stays."""
        self._claim = None

    def _retrying(self, ask: Callable[[], Answer]) -> Answer:
        return retrying(str(self.place), ask, self._retry, reached=True)
