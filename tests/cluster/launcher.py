"""A small real Vitess, started for the tests by the script `local-cluster` and taken down again."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
from pymysql.cursors import DictCursor

BINARIES = ("vtgate", "vttablet", "vtctld", "vtctldclient", "mysqlctl", "etcd", "mysqld")
SETTINGS = ("VTROOT", "VT_MYSQL_ROOT")
SCRIPT = Path(__file__).with_name("local-cluster")
VSCHEMA = '{"sharded": true, "vindexes": {"xxhash": {"type": "xxhash"}}}'
HOST = "127.0.0.1"
MAX_TABLETS = 40
SCRIPT_SECONDS = 280.0
SERVED_SECONDS = 90.0
STOP_SECONDS = 20.0
TABLET_SECONDS = 60.0

Version = tuple[int, int, int]


def version_in(text: str) -> Version:
    """Read the first version in a text."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    assert found is not None, text
    return int(found[1]), int(found[2]), int(found[3])


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
        # A copy: the user who runs Vitess may not be able to read a checkout.
        self._script = str(shutil.copy(SCRIPT, self.folder))
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

    def keyspace(self, name: str, *shards: str, **variables: str) -> None:
        """Add a keyspace; one of several shards gets a VSchema with the vindex xxhash.

        Args:
            name: its name.
            shards: its shards.
            variables: of the script, as VTTABLET_FLAGS, for these tablets.
        """
        with self._tablets_with(variables):
            self.run("keyspace", name, *shards)
        if len(shards) > 1:
            path = self.folder / f"{name}.json"
            path.write_text(VSCHEMA)
            path.chmod(0o644)
            self.run("vschema", name, str(path))
        self.wait_served(name)

    @contextlib.contextmanager
    def _tablets_with(self, variables: dict[str, str]) -> Iterator[None]:
        before = self._environment
        self._environment = {**before, **variables}
        try:
            yield
        finally:
            self._environment = before

    def why_no_backups(self, number: int) -> str:
        """Say what vttablet lacks for a backup of a tablet; empty when nothing is missing."""
        folders = [Path(os.environ["VT_MYSQL_ROOT"], name) for name in ("bin", "sbin")]
        if not any((folder / "mysqladmin").exists() for folder in folders):
            return "no mysqladmin beside mysqld"
        sql = "select * from information_schema.plugins where plugin_name like 'rpl_semi_sync%'"
        return "" if self.mysql(number, sql) else "MySQL has no semi-synchronous plugins"

    def snapshot(self, base: str, name: str, make: Callable[[], None]) -> None:
        """Add a SNAPSHOT keyspace: a replica that is restored from a backup of another keyspace.

        Args:
            base: the other keyspace, which is added, too: of one shard.
            name: its name.
            make: fills the base before the backup.
        """
        storage = "--backup_storage_implementation file --file_backup_storage_root"
        flags = f"{storage} {self.folder}/backups --restore_from_backup"
        with self._tablets_with({"VTTABLET_FLAGS": flags}):
            self.keyspace(base, "0")
        make()
        self.run("ctl", "Backup", "--allow-primary", _alias(self.primary(base, "0")))
        self.wait_served(base)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        of = ("--base-keyspace", base, "--snapshot-timestamp", now)
        self.run("ctl", "CreateKeyspace", "--type", "SNAPSHOT", *of, name)
        flags += f" --init_db_name_override vt_{base}"  # the backup's database
        with self._tablets_with({"VTTABLET_FLAGS": flags}):
            number = int(self.run("replica", name, "0").split()[-1].rpartition("-")[2])
        self._wait(f"tablet {number}", lambda: self._is_serving(number, "REPLICA"))

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

    def move_tables(self, *arguments: str) -> str:
        """Call vtctldclient MoveTables."""
        return self.run("ctl", "MoveTables", *arguments)

    def replica(self, keyspace: str, shard: str) -> int:
        """Add a replica to a shard; return its number when it replicates and serves."""
        number = int(self.run("replica", keyspace, shard).split()[-1].rpartition("-")[2])
        self._wait(f"tablet {number}", lambda: self._is_serving(number, "REPLICA"))
        self.wait_replicated(keyspace, shard, number)
        return number

    def wait_replicated(self, keyspace: str, shard: str, number: int) -> None:
        """Wait until a replica has everything that its primary has now."""
        (row,) = self.mysql(self.primary(keyspace, shard), "select @@global.gtid_executed as gtids")
        sql = f"select gtid_subset('{row['gtids']}', @@global.gtid_executed) as has"
        self._wait(f"tablet {number}'s replication", lambda: self.mysql(number, sql)[0]["has"] == 1)

    def reparent(self, keyspace: str, shard: str, number: int) -> None:
        """Make another tablet the primary; both are well."""
        self.run("failover", f"{keyspace}/{shard}", _alias(number))

    def emergency(self, keyspace: str, shard: str, number: int) -> None:
        """Make a tablet the primary of a shard whose primary is dead."""
        self.run(
            "ctl", "EmergencyReparentShard", f"{keyspace}/{shard}", "--new-primary", _alias(number)
        )

    def primary(self, keyspace: str, shard: str) -> int:
        """Return the number of a shard's primary, by what VTGate saw last."""
        rows = self._tablets_of(keyspace, shard, "PRIMARY")
        return _number(max(rows, key=lambda row: str(row["PrimaryTermStartTime"])))

    def replicas(self, keyspace: str, shard: str) -> list[int]:
        """Return the numbers of a shard's replicas."""
        return [_number(row) for row in self._tablets_of(keyspace, shard, "REPLICA")]

    def listed_replica(self, keyspace: str, shard: str) -> int:
        """Return the number of a replica; one that was a primary is listed only after a while."""
        self._wait(f"a replica of {keyspace}/{shard}", lambda: bool(self.replicas(keyspace, shard)))
        return self.replicas(keyspace, shard)[0]

    def _tablets_of(self, keyspace: str, shard: str, kind: str) -> list[dict[str, Any]]:
        wanted = (keyspace, shard, kind)
        return [r for r in self.tablets() if (r["Keyspace"], r["Shard"], r["TabletType"]) == wanted]

    def tablets(self) -> list[dict[str, Any]]:
        """Return what VTGate knows of all tablets."""
        with pymysql.connect(
            host=HOST, port=self.mysql_port, user="root", cursorclass=DictCursor
        ) as connection:
            cursor = connection.cursor()
            cursor.execute("show vitess_tablets")
            return list(cursor.fetchall())

    def mysql(self, number: int, *statements: str) -> list[dict[str, Any]]:
        """Run statements in a tablet's MySQL, past Vitess; return the last one's rows."""
        path = self.folder / f"vt_{number:010}" / "mysql.sock"
        with pymysql.connect(
            unix_socket=str(path), user="vt_dba", autocommit=True, cursorclass=DictCursor
        ) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def mysql_version(self, number: int) -> Version:
        """Return the version of a tablet's MySQL."""
        (row,) = self.mysql(number, "select @@global.version as version")
        return version_in(row["version"])

    def delay_replication(self, number: int, seconds: int) -> None:
        """Let a replica lag behind its primary by so much."""
        old = self.mysql_version(number) < (8, 0, 23)
        name = "slave" if old else "replica"
        change = "change master to master" if old else "change replication source to source"
        self.mysql(number, f"stop {name}", f"{change}_delay = {seconds}", f"start {name}")

    def purge_binlogs(self, number: int) -> None:
        """Remove all binlogs of a tablet's MySQL but a new, empty one."""
        self.mysql(number, "flush binary logs")
        newest = self.mysql(number, "show binary logs")[-1]["Log_name"]
        self.mysql(number, f"purge binary logs to '{newest}'")

    def set_globals(self, number: int, **values: str) -> None:
        """Set variables of a tablet's MySQL, for the connections its vttablet has open too."""
        self.mysql(number, *(f"set global {name} = '{value}'" for name, value in values.items()))
        sql = "select id from information_schema.processlist where user = 'vt_app'"
        for row in self.mysql(number, sql):
            with contextlib.suppress(pymysql.MySQLError):  # it may have gone by itself
                self.mysql(number, f"kill {next(iter(row.values()))}")

    def kill_tablet(self, number: int, *, mysql: bool) -> None:
        """SIGKILL a tablet's vttablet, and its MySQL too or not."""
        os.kill(self.pid(f"vttablet_{number}"), signal.SIGKILL)
        if mysql:
            self.kill_mysql(number)

    def kill_mysql(self, number: int) -> None:
        """SIGKILL a tablet's MySQL; nothing starts it again."""
        folder = self.folder / f"vt_{number:010}"
        pid = _read_pid(folder / "mysql.pid")
        os.kill(pid, signal.SIGKILL)
        port = self._base + 2000 + number
        # Its threads may hold the port for longer than it lives, and who answers is not started.
        self._wait(
            f"the end of MySQL {number}", lambda: not self.is_alive(pid) and not _answers(port)
        )
        # A dead process that nobody has waited for passes for one that runs.
        for name in ("mysql.pid", "mysql.sock.lock"):
            (folder / name).unlink(missing_ok=True)

    def start_mysql(self, number: int, keyspace: str, shard: str, *, writable: bool) -> None:
        """Start a tablet's MySQL again, which is read-only then, and a new vttablet for it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(f"vttablet_{number}"), signal.SIGKILL)
        self.start_tablet(number, keyspace, shard)
        if writable:
            self.run("ctl", "SetWritable", _alias(number), "true")

    def _is_serving(self, number: int, kind: str) -> bool:
        wanted = (_alias(number), kind, "SERVING")
        return any((r["Alias"], r["TabletType"], r["State"]) == wanted for r in self.tablets())

    @staticmethod
    def _wait(what: str, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TABLET_SECONDS
        while not is_there():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not come in {TABLET_SECONDS:g} s")
            time.sleep(0.2)

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

    @contextlib.contextmanager
    def throttled(self, keyspace: str, app: str) -> Iterator[None]:
        """Let the tablets' throttler hold an app back."""

        def config(*flags: str) -> None:
            self.run("ctl", "UpdateThrottlerConfig", *flags, keyspace)

        config("--enable")
        config("--throttle-app", app, "--throttle-app-ratio", "1", "--throttle-app-duration", "5m")
        try:
            yield
        finally:
            config("--unthrottle-app", app)
            config("--disable")

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

    def run(self, *arguments: str, seconds: float = SCRIPT_SECONDS) -> str:
        """Call the script.

        Raises:
            RuntimeError: it failed, or was not done in time; then all that it waits for is killed.
        """
        with subprocess.Popen(
            [self._script, *arguments],
            env=self._environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"local-cluster {arguments}: not done in {seconds} s") from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            raise RuntimeError(f"local-cluster {arguments}: {out} {err}")
        return out

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


def _alias(number: int) -> str:
    return f"zone1-{number:010}"


def _number(tablet: dict[str, Any]) -> int:
    return int(tablet["Alias"].rpartition("-")[2])


def _read_pid(path: Path) -> int:
    return int(path.read_text())


def _free_port_base() -> int:
    offsets = [0, 1, 306, 379, 380, 991, 999]
    offsets += [n + uid for n in (100, 1100, 2100) for uid in range(MAX_TABLETS)]
    # So far apart that the tablets of two clusters that start at once seldom meet.
    bases = list(range(12000, 30000, MAX_TABLETS + 10))
    random.shuffle(bases)
    for base in bases:
        if all(_is_free(base + offset) for offset in offsets):
            return base
    raise RuntimeError("too many clusters run on this machine: no ports are free")


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
    return True
