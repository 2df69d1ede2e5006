"""State stores: what is saved survives, of two consumers one is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.library import NAMES, QUICK, Replica, vitess
from support.shops import insert, served, three_tables

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vstream import (
    Batch,
    ConfigError,
    FencedError,
    FileState,
    MemoryState,
    RequestError,
    StateError,
    StateStore,
    TableGoneError,
    VitessTableState,
    consume,
)


def with_main() -> Cluster:
    """Make the tables, and a keyspace for states."""
    cluster = three_tables()
    cluster.create_keyspace("main", ["0"])
    return cluster


pytestmark = served(with_main)


@pytest.fixture
def stored(sandbox: Sandbox) -> VitessTableState:
    """Return a state in a table."""
    state = VitessTableState(vitess(sandbox), "main", "job", retry=QUICK)
    state.create()
    return state


@pytest.fixture(params=["memory", "file", "table"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    """Return a store of each kind."""
    if request.param == "file":
        return FileState(tmp_path / "state.json")
    if request.param == "table":
        found: StateStore = request.getfixturevalue("stored")
        return found
    return MemoryState()


def test_any_store(store: StateStore) -> None:
    """First there is none, then the last one saved, also when it is opened again."""
    assert store.load() is None
    store.save("one")
    store.save("é" * 100_000)
    store.close()
    assert store.load() == "é" * 100_000
    store.save("three")
    store.close()
    assert store.load() == "three"
    store.close()


@pytest.mark.slow
def test_consume_with_any_store(sandbox: Sandbox, store: StateStore) -> None:
    """A second run brings only what is new."""
    replica = Replica()
    consume(vitess(sandbox), NAMES, replica.flush, store, follow=False)
    before = len(replica.changes())
    insert(sandbox.cluster, "alpha", 900)
    consume(vitess(sandbox), NAMES, replica.flush, store, follow=False)
    assert [c.key["id"] for c in replica.changes()[before:]] == [900]


# A file


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """What a killed process left of a new one does not count, and does not stay."""
    path = tmp_path / "state.json"
    path.write_text("old")
    (tmp_path / "state.json.new").write_text("{half")
    state = FileState(path)
    assert state.load() == "old"
    state.save("new")
    assert path.read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.json", "state.json.lock"]
    state.close()


@pytest.mark.slow
def test_a_file_is_one_consumers(tmp_path: Path) -> None:
    """Also across processes, and no longer when the process is gone."""
    path = tmp_path / "state.json"
    mine = FileState(path)
    mine.load()
    with pytest.raises(StateError, match="another consumer is running with this state"):
        FileState(path).load()
    program = f"from tap_vitess.vstream import FileState; FileState({str(path)!r}).load()"
    other = [sys.executable, "-c", program]
    refused = subprocess.run(other, capture_output=True, text=True, check=False)
    assert "another consumer is running" in refused.stderr
    mine.close()
    assert subprocess.run(other, check=False).returncode == 0
    mine.load()
    mine.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is Python's own error, which names the path."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        FileState(tmp_path / "nowhere" / "state.json").load()


# A table


def test_the_newer_consumer_wins(sandbox: Sandbox, stored: VitessTableState) -> None:
    """The older one stops at its next save, and has changed nothing."""
    replica = Replica()
    newer = VitessTableState(vitess(sandbox), "main", "job")
    seen: list[str | None] = []

    def flush(batch: Batch) -> None:
        replica.flush(batch)
        if len(replica.batches) == 2:
            seen.append(newer.load())
            newer.save("the newer one's")

    with pytest.raises(FencedError, match=r"the state in main\.tap_vitess_state: a run of job"):
        consume(vitess(sandbox), NAMES, flush, stored, follow=False, batch_rows=5)
    assert len(replica.batches) == 2
    assert seen != [None], "it goes on from what the older one had stored"
    assert VitessTableState(vitess(sandbox), "main", "job").load() == "the newer one's"


def test_an_idle_consumer_learns_of_a_newer_one(sandbox: Sandbox, stored: VitessTableState) -> None:
    """Though there is nothing to flush: the state is saved every while."""
    replica = Replica()
    newer = VitessTableState(vitess(sandbox), "main", "job")

    def stop() -> bool:
        if replica.batches and newer.place.name not in taken:
            taken.add(newer.place.name)
            newer.load()
        return False

    taken: set[str] = set()
    with pytest.raises(FencedError, match="has taken over"):
        consume(vitess(sandbox), NAMES, replica.flush, stored, stop=stop, idle_seconds=0.5)


def test_names_are_apart(sandbox: Sandbox, stored: VitessTableState) -> None:
    """Consumers of other names share the table."""
    other = VitessTableState(vitess(sandbox), "main", "Job")
    assert stored.load() is None
    assert other.load() is None
    stored.save("1")
    other.save("2")
    assert (stored.load(), other.load()) == ("1", "2")


def test_a_state_that_was_not_loaded(stored: VitessTableState) -> None:
    """It cannot be saved, nor one that was closed."""
    with pytest.raises(FencedError, match="was not loaded"):
        stored.save("x")
    stored.load()
    stored.close()
    with pytest.raises(FencedError):
        stored.save("x")


def test_a_table_that_is_not_there(sandbox: Sandbox) -> None:
    """Nothing is read."""
    state = VitessTableState(vitess(sandbox), "main", "job", table="none", retry=QUICK)
    replica = Replica()
    with pytest.raises(TableGoneError, match=r"the state in main\.none"):
        consume(vitess(sandbox), NAMES, replica.flush, state, follow=False)
    assert replica.batches == []


def test_a_keyspace_that_is_not_there(sandbox: Sandbox) -> None:
    """It is named in the library's words, which knows no settings."""
    state = VitessTableState(vitess(sandbox), "nope", "job", retry=QUICK)
    where = "the state in nope.tap_vitess_state: VTGate does not know the keyspace"
    with pytest.raises(RequestError, match=where) as made:
        state.create()
    assert str(made.value) == f"{where} nope: check the argument keyspace"
    with pytest.raises(RequestError, match=where) as read:
        state.load()
    assert "setting" not in str(read.value)


def test_a_table_that_holds_the_state_cannot_be_followed(sandbox: Sandbox) -> None:
    """Each write to it would be a change to be written of."""
    state = VitessTableState(vitess(sandbox), "shop", "job", table="alpha")
    with pytest.raises(ConfigError, match=r"shop\.alpha holds the state"):
        consume(vitess(sandbox), NAMES, Replica().flush, state)


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_a_name_that_does_not_fit(sandbox: Sandbox, name: str) -> None:
    """MySQL could cut it, and two would be one."""
    with pytest.raises(ConfigError, match="1 to 255"):
        VitessTableState(vitess(sandbox), "main", name)


def test_a_file_keeps_any_text(tmp_path: Path) -> None:
    """Line ends, too."""
    text = "a\r\nb\rc\n\0é😀"
    state = FileState(tmp_path / "state")
    state.load()
    state.save(text)
    assert state.load() == text
    state.close()
