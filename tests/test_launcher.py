"""The script that starts a Vitess for tests/cluster, where the commands it calls fail or hang."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.launcher import Cluster

TABLET = "vt_0000000100"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder, which everybody may read, whose commands are found first."""
    folder = Path(tempfile.mkdtemp(prefix="tap-vitess-commands-"))
    folder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("VTROOT", str(folder))
    monkeypatch.setenv("VT_MYSQL_ROOT", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cluster(commands: Path) -> Iterator[Cluster]:  # noqa: ARG001 - it takes the PATH
    """Return a cluster that is not started."""
    made = Cluster()
    yield made
    shutil.rmtree(made.folder)


def put(folder: Path, name: str, body: str) -> None:
    """Write a command."""
    path = folder / name
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def test_a_tablet_that_does_not_start(cluster: Cluster, commands: Path) -> None:
    """It ends the shard, and says why; nothing waits for it."""
    put(commands, "mysqlctl", "echo no room left; exit 1")
    put(commands, "vttablet", "touch $VTDATAROOT/started")
    put(commands, "vtctldclient", "exit 1")
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"init of tablet 100 failed(.|\n)*no room left"):
        cluster.keyspace("shop", "0")
    assert time.monotonic() - start < 10
    assert not (cluster.folder / "started").exists()


@pytest.mark.slow
def test_a_folder_half_made_is_no_tablet(cluster: Cluster, commands: Path) -> None:
    """What an init that was cut has left is made anew."""
    put(commands, "mysqlctl", f"mkdir $VTDATAROOT/{TABLET} && sleep 60")
    with pytest.raises(RuntimeError, match="not done in 2 s"):
        cluster.run("keyspace", "shop", "0", seconds=2)
    assert (cluster.folder / TABLET).exists()
    put(commands, "mysqlctl", f"echo ${{@: -1}} $(ls $VTDATAROOT/{TABLET} 2>&1); exit 1")
    with pytest.raises(RuntimeError, match="init ls: cannot access"):
        cluster.run("keyspace", "shop", "0")


@pytest.mark.slow
def test_what_takes_too_long_is_killed(cluster: Cluster, commands: Path) -> None:
    """With all that it has called."""
    put(commands, "mysqlctl", "sleep 60 & echo $! > $VTDATAROOT/pid; wait")
    with pytest.raises(RuntimeError, match="not done in 2 s"):
        cluster.run("keyspace", "shop", "0", seconds=2)
    pid = int((cluster.folder / "pid").read_text())
    deadline = time.monotonic() + 5
    while cluster.is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not cluster.is_alive(pid)


@pytest.mark.skipif(os.getuid() != 0, reason="only root runs Vitess as another user")
def test_what_the_other_user_cannot_read(cluster: Cluster, commands: Path) -> None:
    """One sentence names it."""
    commands.chmod(0o700)
    with pytest.raises(RuntimeError, match=f"user nobody, .* may not read {commands}: open"):
        cluster.run("up")
