"""The mirror: one row a job, written by the newest run only; what is confirmed stays apart."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.shops import served, shop
from support.taps import ImpatientTap, Target, discover, run, settings

from tap_vitess.config import Config
from tap_vitess.errors import (
    ConnectError,
    FencedError,
    RequestError,
    StateError,
    TableGoneError,
    VitessError,
)
from tap_vitess.mirror import commands as mirror_command
from tap_vitess.mirror.row import Place, claim, create, ddl
from tap_vitess.mirror.run import BOOKMARK, run_of
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox

PLACE = Place("main", "tap_vitess_mirror", "job")
SHARDED = Place("shop", "mirror", "job")
MIRROR = {"mirror_keyspace": "main", "mirror_name": "job"}
ROWS = 120


def two_keyspaces() -> Cluster:
    """Make a sharded keyspace with a table, and an empty one that is not sharded."""
    columns = (Column("id", "int", nullable=False), Column("v", "varchar(40)"))
    cluster = shop(Table("item", columns, primary_key=("id",)))
    cluster.create_keyspace("main", ["0"])
    cluster.insert("shop", "item", [{"id": b"%d" % i, "v": b"a"} for i in range(ROWS)])
    return cluster


pytestmark = served(two_keyspaces)


@pytest.fixture
def config(sandbox: Sandbox) -> Config:
    """Return the settings, the mirror's table made."""
    made = Config.from_settings(settings(sandbox, **MIRROR))
    create(made, PLACE)
    return made


def row(sandbox: Sandbox, place: Place = PLACE) -> dict[str, Any]:
    """Return the job's row."""
    [found] = sandbox.cluster.rows(place.keyspace, place.table)
    return {name: None if value is None else value.decode() for name, value in found.items()}


# The row


def test_a_row_is_claimed_and_written(sandbox: Sandbox, config: Config) -> None:
    """What is confirmed and what is emitted are two things, each with its time."""
    mine, confirmed = claim(config, PLACE)
    assert confirmed is None
    mine.confirm("é" * 100_000)
    mine.emit("two")
    mine.emit("two")
    found = row(sandbox)
    assert (found["token"], found["emitted"]) == (mine.token, "two")
    assert found["confirmed"] == "é" * 100_000
    assert found["started_at"] <= found["confirmed_at"] <= found["emitted_at"]
    assert claim(config, PLACE)[1] == "é" * 100_000


def test_the_newer_run_wins(sandbox: Sandbox, config: Config) -> None:
    """The older one's writes change nothing and tell it so."""
    older, _ = claim(config, PLACE)
    older.confirm("old")
    newer, confirmed = claim(config, PLACE)
    assert confirmed == "old"
    newer.confirm("new")
    for write in (older.confirm, older.emit):
        with pytest.raises(FencedError, match=r"main.tap_vitess_mirror.*has taken over") as error:
            write("a state nobody may log")
        assert "nobody may log" not in str(error.value)
    assert (row(sandbox)["confirmed"], row(sandbox)["emitted"]) == ("new", None)
    newer.emit("newer")
    assert row(sandbox)["emitted"] == "newer"


def test_names_are_apart(sandbox: Sandbox, config: Config) -> None:
    """Jobs share the table and do not fence each other."""
    one, _ = claim(config, PLACE)
    other, _ = claim(config, Place("main", PLACE.table, "Job"))
    one.emit("1")
    other.emit("2")
    found = {r["name"]: r["emitted"] for r in sandbox.cluster.rows("main", PLACE.table)}
    assert found == {b"job": b"1", b"Job": b"2"}


def test_a_table_with_a_percent_sign(sandbox: Sandbox) -> None:
    """No statement takes it for a placeholder."""
    place = Place("main", "100%s of %d", "job")
    made = Config.from_settings(settings(sandbox, **MIRROR, mirror_table=place.table))
    create(made, place)
    claim(made, place)
    mine, _ = claim(made, place)
    mine.confirm("one")
    mine.emit("two")
    assert (row(sandbox, place)["confirmed"], row(sandbox, place)["emitted"]) == ("one", "two")


def test_a_row_that_is_deleted(sandbox: Sandbox, config: Config) -> None:
    """The run is told, and does not make another."""
    mine, _ = claim(config, PLACE)
    sandbox.cluster.delete("main", PLACE.table, {"name": b"job"})
    with pytest.raises(FencedError, match="deleted the row of job"):
        mine.emit("x")


def test_a_table_that_is_not_there(sandbox: Sandbox) -> None:
    """The error says how to make it."""
    config = Config.from_settings(settings(sandbox, **MIRROR))
    with pytest.raises(TableGoneError, match=r"main.tap_vitess_mirror: .*tap-vitess-mirror ddl"):
        claim(config, PLACE)


def test_a_keyspace_that_is_not_there(sandbox: Sandbox) -> None:
    """It is named, by the command too."""
    config = Config.from_settings(settings(sandbox, **MIRROR))
    with pytest.raises(RequestError, match=r"mirror no\.t: VTGate does not know the keyspace"):
        claim(config, Place("no", "t", "job"))
    with pytest.raises(
        RequestError, match=r"know the keyspace no: check the setting mirror_keyspace$"
    ):
        create(config, Place("no", "t", "job"))


def test_a_sharded_keyspace(sandbox: Sandbox, config: Config) -> None:
    """The table is sharded by the name, and works as elsewhere."""
    assert "add vindex xxhash(name)" in ddl(SHARDED, sharded=True)[1]
    create(config, SHARDED)
    older, _ = claim(config, SHARDED)
    newer, _ = claim(config, SHARDED)
    newer.confirm("new")
    with pytest.raises(FencedError):
        older.confirm("old")
    assert row(sandbox, SHARDED)["confirmed"] == "new"


def test_a_table_sharded_by_another_column(sandbox: Sandbox, config: Config) -> None:
    """Two runs could have a row each: it is refused before anything is written."""
    names = ("token", "name", "started_at", "confirmed", "confirmed_at", "emitted", "emitted_at")
    columns = tuple(Column(name, "varchar(255)", nullable=name > "o") for name in names)
    sandbox.cluster.create_table("shop", Table("mirror", columns, primary_key=("token",)))
    with pytest.raises(RequestError, match="put its vindex on the column name"):
        claim(config, SHARDED)
    assert sandbox.cluster.rows("shop", "mirror") == []


def test_the_table_is_no_stream(sandbox: Sandbox, config: Config) -> None:
    """A mirror in the keyspace that is read is not copied."""
    create(config, SHARDED)
    found = discover(
        settings(sandbox, mirror_keyspace="shop", mirror_table="mirror", mirror_name="j")
    )
    names = {stream["tap_stream_id"] for stream in found["streams"]}
    assert names == {"shop-item", "main-tap_vitess_mirror"}


# Runs


def tap_settings(sandbox: Sandbox, **more: Any) -> dict[str, Any]:
    return settings(sandbox, keyspaces=["shop"], **MIRROR, **more)


def test_a_run_confirms_what_it_was_started_with(sandbox: Sandbox, config: Config) -> None:
    """And only that; what it tells is emitted."""
    del config
    first, second = Target(), Target()
    assert run(tap_settings(sandbox), first, state={"bookmarks": {}})
    assert json.loads(row(sandbox)["confirmed"]) == {}
    assert json.loads(row(sandbox)["emitted"]) == first.state
    assert len(first.contents("shop-item")) == ROWS
    assert run(tap_settings(sandbox), second, state=first.state)
    assert json.loads(row(sandbox)["confirmed"]) == first.state
    assert json.loads(row(sandbox)["emitted"]) == second.state
    tokens = [run_of(target.state) for target in (first, second)]
    assert tokens[0] != tokens[1] == row(sandbox)["token"]
    assert all(run_of(state) == tokens[0] for state in first.states)


class NoState(Target):
    """A target whose states get lost: each run is given none."""

    @property
    def state(self) -> dict[str, Any]:
        return None  # type: ignore[return-value]


def test_a_run_without_a_state_starts_from_the_mirror_when_told_to(
    sandbox: Sandbox, config: Config
) -> None:
    """From what was confirmed, not from what was emitted."""
    claimed, _ = claim(config, PLACE)
    target = NoState()
    assert run(tap_settings(sandbox, start_from_mirror=True), target)
    assert len(target.records()) == ROWS, "nothing was confirmed: a first run"
    after_copy = target.states[-1]
    sandbox.cluster.update("shop", "item", {"id": b"7"}, {"v": b"b"})
    assert run(tap_settings(sandbox, start_from_mirror=True), target)
    assert len(target.records()) == 2 * ROWS, "what was emitted counts for nothing"
    claimed, _ = claim(config, PLACE)
    claimed.confirm(json.dumps(after_copy))
    target.messages.clear()
    assert run(tap_settings(sandbox, start_from_mirror=True), target)
    assert [record["id"] for record in target.records()] == [7]
    assert json.loads(row(sandbox)["confirmed"]) == after_copy


def test_a_run_anew_forgets_what_was_confirmed(sandbox: Sandbox, config: Config) -> None:
    """Else a later run would go on from a state that another target had stored."""
    claim(config, PLACE)[0].confirm("{}")
    target = NoState()
    assert run(tap_settings(sandbox), target)
    assert row(sandbox)["confirmed"] is None
    assert len(target.records()) == ROWS


def test_a_confirmed_state_that_is_none(sandbox: Sandbox, config: Config) -> None:
    """It is refused, and stays."""
    claim(config, PLACE)[0].confirm("{bad")
    target = NoState()
    with pytest.raises(StateError, match="what is confirmed of job is not JSON"):
        run(tap_settings(sandbox, start_from_mirror=True), target)
    assert target.messages == []
    assert row(sandbox)["confirmed"] == "{bad"


@dataclass
class Meddling(Target):
    """A target in whose middle something happens, longer than a checkpoint takes."""

    meddle: Callable[[], object] = lambda: None
    records_left: int = ROWS // 2

    def _record(self, message: dict[str, Any]) -> None:
        super()._record(message)
        self.records_left -= 1
        if self.records_left == 0:
            self.meddle()
            time.sleep(1.05)


@pytest.mark.slow
def test_the_older_of_two_runs_ends(
    sandbox: Sandbox, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """At its next checkpoint, with an error, and without another STATE."""
    target = Meddling(meddle=lambda: claim(config, PLACE)[0].emit("the newer one's"))
    with pytest.raises(FencedError, match="has taken over from this one"):
        run(tap_settings(sandbox), target)
    assert row(sandbox)["emitted"] == "the newer one's"
    kinds = [message["type"] for message in target.messages]
    assert "ACTIVATE_VERSION" not in kinds
    assert "has taken over" not in caplog.text, "it is the keyspace's error as well"
    behind = kinds[kinds.index("RECORD") + ROWS // 2 :]
    assert behind.count("STATE") <= 1, "the one that was under way"


@pytest.mark.slow
def test_the_older_run_is_told_at_its_end_at_the_latest(sandbox: Sandbox, config: Config) -> None:
    """Also when no checkpoint was due any more."""
    target = Meddling(meddle=lambda: claim(config, PLACE))
    with pytest.raises(FencedError):
        run({**tap_settings(sandbox), "checkpoint_seconds": 600}, target)


@pytest.mark.slow
def test_a_mirror_that_goes_away(
    sandbox: Sandbox, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """The copying goes on to its last STATE; then the run ends with the error."""
    del config
    drop = "drop table `tap_vitess_mirror`"
    target = Meddling(meddle=lambda: sandbox.cluster.ddl("main", drop, None))
    with pytest.raises(TableGoneError, match="tap-vitess-mirror ddl"):
        run(tap_settings(sandbox), target)
    assert "the state was not mirrored, the next checkpoint tries again" in caplog.text
    assert target.messages[-1]["type"] == "STATE"
    assert len(target.contents("shop-item")) == ROWS
    after = Target(states=target.states)
    assert run(settings(sandbox, keyspaces=["shop"]), after), "the STATE holds"
    assert after.records() == []


def test_a_mirror_that_cannot_be_taken_over(sandbox: Sandbox) -> None:
    """Nothing is read."""
    target = Target()
    with pytest.raises(TableGoneError):
        run(tap_settings(sandbox), target, tap_class=ImpatientTap)
    assert target.messages == []


def test_no_mirror(sandbox: Sandbox) -> None:
    """Without the settings nothing is asked for and no bookmark is added."""
    target = Target()
    assert run(settings(sandbox, keyspaces=["shop"]), target)
    assert all(BOOKMARK not in state["bookmarks"] for state in target.states)


# The command


def command(tmp_path: Path, config: dict[str, Any], *arguments: str, lines: bytes = b"") -> Any:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(config))
    start = [sys.executable, "-W", "error", "-m", "tap_vitess.mirror.__main__"]
    return subprocess.run(
        [*start, *arguments, "--config", str(path)],
        input=lines,
        capture_output=True,
        timeout=30,
        check=False,
    )


@pytest.mark.slow
def test_ddl_is_printed_and_run_on_request(sandbox: Sandbox, tmp_path: Path) -> None:
    """What is printed is what is run."""
    printed = command(tmp_path, tap_settings(sandbox), "ddl")
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.decode().startswith("create table `main`.`tap_vitess_mirror` (")
    assert sandbox.cluster.tables("main") == {}
    done = command(tmp_path, tap_settings(sandbox), "ddl", "--run")
    assert (done.returncode, done.stdout) == (0, printed.stdout), done.stderr
    assert sandbox.cluster.tables("main").keys() == {"tap_vitess_mirror"}
    with pytest.raises(RequestError, match="already exists"):
        create(Config.from_settings(tap_settings(sandbox)), PLACE)


@pytest.mark.slow
def test_confirm_stores_the_last_state(sandbox: Sandbox, config: Config, tmp_path: Path) -> None:
    """Each line is passed on as it is."""
    target = Target()
    assert run(tap_settings(sandbox), target)
    lines = [b"not json", *(json.dumps(state).encode() for state in target.states), b"[1]", b"{}"]
    sent = b"\n".join(lines)
    done = command(tmp_path, tap_settings(sandbox), "confirm", lines=sent)
    assert (done.returncode, done.stdout) == (0, sent), done.stderr
    assert json.loads(row(sandbox)["confirmed"]) == target.state
    message = json.dumps({"type": "STATE", "value": target.states[0]}).encode()
    mirror_command.confirm(config, [message])
    assert json.loads(row(sandbox)["confirmed"]) == target.states[0]


def test_confirm_does_not_wait_for_the_end(
    sandbox: Sandbox, config: Config, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A state is stored when the target prints it."""
    claimed, _ = claim(config, PLACE)
    state = {"bookmarks": {BOOKMARK: {"run": claimed.token}}}

    def lines() -> Iterator[bytes]:
        yield json.dumps(state).encode() + b"\n"
        yield b"\n"
        assert json.loads(row(sandbox)["confirmed"]) == state

    mirror_command.confirm(config, lines())
    assert capsysbinary.readouterr().out.startswith(b'{"bookmarks"')


def test_an_interrupt_does_not_end_confirm(
    sandbox: Sandbox, config: Config, tmp_path: Path
) -> None:
    """It goes to the whole pipe, and the target's last state is still to come."""
    claimed, _ = claim(config, PLACE)
    state = {"bookmarks": {BOOKMARK: {"run": claimed.token}}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tap_settings(sandbox)))
    start = [sys.executable, "-W", "error", "-m", "tap_vitess.mirror.__main__"]
    with subprocess.Popen(
        [*start, "confirm", "--config", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"\n"
        process.send_signal(signal.SIGINT)
        process.communicate(json.dumps(state).encode() + b"\n", timeout=30)
    assert process.returncode == 0
    assert json.loads(row(sandbox)["confirmed"]) == state


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "the target has printed no state"),
        ([b'{"bookmarks": {}}'], "names no run of a mirror"),
        ([b'{"bookmarks": {"vitess-mirror": {"run": "older"}}}', b"and more"], "has taken over"),
    ],
)
def test_confirm_refuses(
    sandbox: Sandbox,
    config: Config,
    capsysbinary: pytest.CaptureFixture[bytes],
    lines: list[bytes],
    words: str,
) -> None:
    """The lines are passed on all the same, and the row is as it was."""
    claim(config, PLACE)[0].confirm("kept")
    with pytest.raises(VitessError, match=words):
        mirror_command.confirm(config, lines)
    assert capsysbinary.readouterr().out == b"".join(lines)
    assert row(sandbox)["confirmed"] == "kept"


def test_the_command_fails_in_one_sentence(sandbox: Sandbox, tmp_path: Path) -> None:
    """With exit code 1; the settings are named."""
    done = command(tmp_path, settings(sandbox), "confirm", lines=b"{}")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert b"mirror_keyspace and mirror_name" in line


def test_no_vtgate() -> None:
    """The error is that of any run."""
    config = Config.from_settings({"host": "127.0.0.1", "mysql_port": 1, **MIRROR})
    with pytest.raises(ConnectError, match="check the settings host"):
        claim(config, PLACE)
