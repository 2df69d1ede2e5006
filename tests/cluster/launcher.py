"""A small real Vitess, started for the tests by the script `local-cluster` and taken down again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql

BINARIES = ("vtgate", "vttablet", "vtctld", "vtctldclient", "mysqlctl", "etcd", "mysqld")
SETTINGS = ("VTROOT", "VT_MYSQL_ROOT")
SCRIPT = Path(__file__).with_name("local-cluster")
VSCHEMA = '{"sharded": true, "vindexes": {"xxhash": {"type": "xxhash"}}}'
HOST = "127.0.0.1"
MAX_TABLETS = 20
SERVED_SECONDS = 90.0
STOP_SECONDS = 20.0


def missing() -> str:
    """Say what a cluster would need and is not there; empty when nothing is missing."""
    absent = [name for name in BINARIES if shutil.which(name) is None]
    if "vtgate" in absent:
        return "no Vitess binaries on PATH"
    if absent:
        return f"not on PATH: {', '.join(absent)}"
    unset = [name for name in SETTINGS if not os.environ.get(name)]
    return f"not in the environment: {', '.join(unset)}" if unset else ""


class Cluster:
    """One running cluster: etcd, vtctld, vtgate, and a vttablet with its mysqld for each shard."""

    def __init__(self) -> None:
        """Choose a folder and ports; `start` starts it."""
        self.folder = Path(tempfile.mkdtemp(prefix="tap-vitess-cluster-"))
        self.folder.chmod(0o755)
        self._base = _free_port_base()
        self.grpc_port = self._base + 991
        self.mysql_port = self._base + 306
        self._environment = {
            "VITESS_USER": "nobody",
            **os.environ,
            "VTDATAROOT": str(self.folder),
            "PORT_BASE": str(self._base),
            "COMPLETE": "no",
            "VTGATE_FLAGS": "--vschema_ddl_authorized_users=%",
        }

    def start(self) -> None:
        """Start what every keyspace shares."""
        self.run("up")

    def keyspace(self, name: str, *shards: str) -> None:
        """Add a keyspace; one of several shards gets a VSchema with the vindex xxhash."""
        self.run("keyspace", name, *shards)
        if len(shards) > 1:
            path = self.folder / f"{name}.json"
            path.write_text(VSCHEMA)
            path.chmod(0o644)
            self.run("vschema", name, str(path))
        self.wait_served(name)

    def wait_served(self, keyspace: str) -> None:
        """Wait until VTGate reaches every shard: new tablets it sees only after a while."""
        deadline = time.monotonic() + SERVED_SECONDS
        while (problem := self._not_served(keyspace)) and time.monotonic() < deadline:
            time.sleep(0.3)
        if problem:
            raise RuntimeError(f"{keyspace} is not served: {problem}")

    def _not_served(self, keyspace: str) -> str:
        try:
            with pymysql.connect(host=HOST, port=self.mysql_port, user="root") as connection:
                cursor = connection.cursor()
                cursor.execute(f"use `{keyspace}`")
                cursor.execute(f"show global gtid_executed from `{keyspace}`")
                answer = {str(shard) for *_, shard in cursor.fetchall()}
                cursor.execute("show vitess_shards")
                names = [str(name).split("/") for (name,) in cursor.fetchall()]
        except pymysql.MySQLError as error:
            return str(error)
        serving = {shard for owner, shard in names if owner == keyspace}
        return f"{serving ^ answer}" if serving != answer else ""

    def reshard(self, keyspace: str, source: str, *targets: str) -> None:
        """Reshard up to the switch of traffic; the old shards stay."""
        # Of two workflows with one name, the second would find the first one's reverse.
        self._environment["WORKFLOW"] = "reshard" + "".join(c for c in source if c.isalnum())
        self.run("reshard", keyspace, source, *targets)

    def pid(self, name: str) -> int:
        """Return the pid of a process: vtgate, or vttablet_ and its number."""
        return _read_pid(self.folder / "logs" / f"{name}.pid")

    @staticmethod
    def is_alive(pid: int) -> bool:
        """Tell whether a process runs; one that only waits for its parent does not."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    def start_tablet(self, number: int, keyspace: str, shard: str) -> None:
        """Start a vttablet again."""
        self.run("start-tablet", str(number), keyspace, shard)

    def start_gate(self) -> None:
        """Start vtgate again."""
        self.run("gate")

    @contextlib.contextmanager
    def gate_with(self, *flags: str) -> Iterator[None]:
        """Run vtgate with further flags, and as it was afterwards."""
        before = self._environment["VTGATE_FLAGS"]
        try:
            self._restart_gate(" ".join([before, *flags]))
            yield
        finally:
            self._restart_gate(before)

    def _restart_gate(self, flags: str) -> None:
        old = self.pid("vtgate")
        self.run("kill", "vtgate")
        deadline = time.monotonic() + STOP_SECONDS
        while self.is_alive(old) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._environment["VTGATE_FLAGS"] = flags
        self.start_gate()

    def tablet(self, keyspace: str, shard: str) -> int:
        """Return the number of a shard's tablet."""
        for path in (self.folder / "logs").glob("tablet_*"):
            if path.read_text().strip() == f"{keyspace}/{shard}":
                return int(path.name.removeprefix("tablet_"))
        raise LookupError(f"{keyspace}/{shard} has no tablet")

    def run(self, *arguments: str) -> str:
        """Call the script.

        Raises:
            RuntimeError: it failed.
        """
        done = subprocess.run(
            [str(SCRIPT), *arguments],
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"local-cluster {arguments}: {done.stdout} {done.stderr}")
        return done.stdout

    def stop(self) -> None:
        """End every process of the cluster and remove its folder."""
        vitess = [_read_pid(path) for path in self.folder.glob("logs/*.pid")]
        mysql = [_read_pid(path) for path in self.folder.glob("vt_*/mysql.pid")]
        self.run("down")
        for pid in filter(self.is_alive, vitess):
            os.kill(pid, signal.SIGKILL)
        # Not so MySQL: mysqld_safe would start it again.
        deadline = time.monotonic() + STOP_SECONDS
        while any(map(self.is_alive, mysql)) and time.monotonic() < deadline:
            time.sleep(0.2)
        shutil.rmtree(self.folder, ignore_errors=True)


def _read_pid(path: Path) -> int:
    return int(path.read_text())


def _free_port_base() -> int:
    offsets = [0, 1, 306, 379, 380, 991, 999]
    offsets += [n + uid for n in (100, 1100, 2100) for uid in range(MAX_TABLETS)]
    bases = list(range(12000, 28000, 500))
    random.shuffle(bases)
    return next(base for base in bases if all(_is_free(base + offset) for offset in offsets))


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
    return True
