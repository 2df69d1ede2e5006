"""The examples that split a keyspace over several jobs: real engines, taps and targets.

Dagster is the released one, in an environment of its own, and runs what is in examples/dagster.
The CronJobs of examples/kubernetes have not run in a cluster: their YAML is read, and the very
command of each pod is run here by bash, with the files of the ConfigMap and the Secret's variables.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import targets
from support.environments import install
from support.processes import Processes, environment
from support.shops import served
from support.taps import expected

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox

EXAMPLES = Path(__file__).parent.parent / "examples"
DAGSTER = ("dagster==1.13.29",)
JOBS = {"orders": ["shop.orders", "shop.order_*"], "rest": ["*"]}
OF_JOB = {"orders": ("orders", "order_items"), "rest": ("customers", "views")}
TABLES = ("orders", "order_items", "customers", "views")
SECONDS = 200


def _cluster() -> Cluster:
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-80", "80-"])
    for name in TABLES:
        columns = (Column("id", "int", nullable=False), Column("v", "varchar(20)"))
        cluster.create_table("shop", Table(name, columns, primary_key=("id",)))
        _insert(cluster, name, 0)
    return cluster


def _insert(cluster: Cluster, table: str, first: int) -> None:
    rows = [{"id": b"%d" % i, "v": b"v%d" % i} for i in range(first, first + 20)]
    cluster.insert("shop", table, rows)


def _change(cluster: Cluster, first: int) -> None:
    for table in TABLES:
        _insert(cluster, table, first)
        cluster.update("shop", table, {"id": b"%d" % (first - 18)}, {"v": b"changed"})
        cluster.delete("shop", table, {"id": b"%d" % (first - 17)})


@dataclass
class Out:
    """What target-jsonl has appended, a file a stream."""

    folder: Path

    def records(self, table: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file(table).read_text().splitlines()]

    def file(self, table: str) -> Path:
        return self.folder / f"shop-{table}.jsonl"

    def ops(self, table: str, since: int = 0) -> set[str]:
        return {record["_sdc_vitess_op"] for record in self.records(table)[since:]}

    def check(self, cluster: Cluster, *tables: str) -> None:
        """Fold the records by key, the highest number wins, and compare with the source."""
        for table in tables:
            last: dict[int, dict[str, Any]] = {}
            for record in sorted(self.records(table), key=lambda r: int(r["_sdc_vitess_seq"])):
                last[record["id"]] = record
            rows = [
                {name: value for name, value in record.items() if not name.startswith("_sdc")}
                for record in last.values()
                if record["_sdc_deleted_at"] is None
            ]
            assert sorted(rows, key=json.dumps) == expected(cluster, "shop", table), table


def _tables(state: Mapping[str, Any]) -> set[str]:
    groups = state["bookmarks"]["vitess:shop"]["groups"]
    return {table for group in groups for table in group["tables"]}


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Return what starts processes, and end them."""
    with Processes() as made:
        yield made


# Dagster


def test_the_page_has_the_version_and_the_tables_that_are_run() -> None:
    page = (EXAMPLES.parent / "docs" / "operating.md").read_text(encoding="utf-8")
    assert f"{DAGSTER[0].removeprefix('dagster==')} is what the test runs" in page
    assert json.dumps(JOBS) in page


@dataclass
class Engine:
    """Dagster, with the definitions of the example."""

    home: Path
    environment: dict[str, str]
    processes: Processes

    def begin(self, job: str) -> subprocess.Popen[str]:
        dagster = install(DAGSTER) / "dagster"
        definitions = EXAMPLES / "dagster" / "definitions.py"
        return self.processes.begin(
            [dagster, "job", "execute", "-f", definitions, "-j", job],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=self.home,
        )

    def begin_alone(self, job: str) -> subprocess.Popen[str]:
        """Run a job's pipe without Dagster around it."""
        code = "import json, sys; from definitions import run; run(*map(json.loads, sys.argv[1:]))"
        return self.processes.begin(
            [install(DAGSTER) / "python", "-c", code, json.dumps(job), json.dumps(JOBS)],
            env={**self.environment, "PYTHONPATH": str(EXAMPLES / "dagster")},
            stderr=subprocess.PIPE,
        )

    def run(self, job: str) -> tuple[int, str]:
        """Run one of Dagster's jobs to its end; return its exit code and what it told."""
        process = self.begin(job)
        told, _ = process.communicate(timeout=SECONDS)
        return process.returncode, told

    def state(self, job: str) -> bytes:
        return (self.home / job / "state.json").read_bytes()


def with_main() -> Cluster:
    """Make the keyspace that is split, beside one for the mirror."""
    cluster = _cluster()
    cluster.create_keyspace("main", ["0"])
    return cluster


pytestmark = [
    pytest.mark.timeout(600),
    served(with_main, username="etl", password="change-me"),
]


@pytest.fixture
def engine(sandbox: Sandbox, processes: Processes, tmp_path: Path) -> Engine:
    """Return Dagster with the jobs' folder and its own set up."""
    address = {"host": sandbox.host, "user": "etl", "password": "change-me"}
    ports = {"grpc_port": sandbox.grpc_port, "mysql_port": sandbox.mysql_port}
    files = {
        "vitess.json": {**address, **ports, "keyspaces": ["shop"]},
        "target.json": {"destination_path": str(tmp_path / "out"), "do_timestamp_file": False},
        "jobs.json": JOBS,
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    dagster_home = tmp_path / "dagster"
    dagster_home.mkdir()
    shutil.copy(EXAMPLES / "dagster" / "dagster.yaml", dagster_home)
    found = environment(targets.JSONL, VITESS_JOBS=tmp_path, DAGSTER_HOME=dagster_home)
    return Engine(tmp_path, found, processes)


@pytest.mark.environments
def test_dagster_runs_the_jobs_with_a_state_each(engine: Engine, sandbox: Sandbox) -> None:
    """Copy, then follow; a job that fails keeps its place, and its runs do not overlap."""
    cluster, out = sandbox.cluster, Out(engine.home / "out")
    code, told = engine.run("all_jobs")
    assert code == 0, told
    out.check(cluster, *TABLES)
    for job, tables in OF_JOB.items():
        assert _tables(json.loads(engine.state(job))) == set(tables)
    before = {job: engine.state(job) for job in JOBS}
    counts = {table: len(out.records(table)) for table in TABLES}

    _change(cluster, 20)
    kept = out.file("orders").rename(engine.home / "kept.jsonl")
    out.file("orders").mkdir()  # the target cannot write there
    code, told = engine.run("all_jobs")
    assert code != 0
    assert "Execution of run for \"all_jobs\" failed. Steps failed: ['orders']" in told
    assert engine.state("orders") == before["orders"]
    assert engine.state("rest") != before["rest"]
    out.check(cluster, *OF_JOB["rest"])
    for table in OF_JOB["rest"]:
        assert out.ops(table, counts[table]) == {"insert", "update", "delete"}

    out.file("orders").rmdir()
    kept.rename(out.file("orders"))
    rest = engine.state("rest")
    assert _two_at_once(engine, lambda: engine.begin("orders_job")) == ["begin", "end"] * 2
    out.check(cluster, *TABLES)
    assert out.ops("orders", counts["orders"]) == {"insert", "update", "delete"}
    assert len(out.records("orders")) == counts["orders"] + 22, "the second run brought it again"
    assert engine.state("orders") != before["orders"]
    assert engine.state("rest") == rest


@pytest.mark.environments
def test_runs_that_dagster_lets_through_do_not_overlap(engine: Engine) -> None:
    """They lock the job's folder."""
    assert _two_at_once(engine, lambda: engine.begin_alone("orders")) == ["begin", "end"] * 2


def _two_at_once(engine: Engine, begin: Callable[[], subprocess.Popen[str]]) -> list[str]:
    """Begin two runs of a job with a slow target; tell when those targets began and ended."""
    times, slow = engine.home / "times", engine.home / "slow"
    slow.write_text(
        f'#!/bin/sh\necho begin >> {times}\nsleep 3\ntarget-jsonl "$@"\necho end >> {times}\n'
    )
    slow.chmod(0o755)
    engine.environment["VITESS_TARGET"] = str(slow)
    for run in [begin() for _ in range(2)]:
        told, _ = run.communicate(timeout=SECONDS)
        assert run.returncode == 0, told
    return times.read_text().split()


@pytest.mark.environments
def test_a_run_that_is_cancelled_keeps_what_has_come(engine: Engine, sandbox: Sandbox) -> None:
    """The tap ends at a boundary, and the target's last state is stored."""
    sandbox.faults.append(Fault(stall_after_events=3))
    process = engine.begin_alone("rest")
    _wait_for_a_stream(sandbox, process)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=SECONDS)
    assert "KeyboardInterrupt" in log
    assert process.returncode == -signal.SIGINT
    assert "ended by signal 15" in (engine.home / "rest" / "tap.log").read_text()
    assert "vitess:shop" in json.loads(engine.state("rest"))["bookmarks"]


def _wait_for_a_stream(sandbox: Sandbox, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not sandbox.requests:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


# Kubernetes


CRONJOBS = EXAMPLES / "kubernetes" / "cronjobs.yaml"


@dataclass
class Pods:
    """What the pods of the CronJobs would have: variables, and a command a job."""

    environment: dict[str, str]
    commands: dict[str, list[str]]
    processes: Processes

    def begin(self, job: str) -> subprocess.Popen[str]:
        return self.processes.begin(
            self.commands[job],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )

    def run(self, job: str) -> None:
        process = self.begin(job)
        out, log = process.communicate(timeout=SECONDS)
        assert (process.returncode, out) == (0, ""), log


@pytest.fixture
def pods(sandbox: Sandbox, processes: Processes, tmp_path: Path) -> Pods:
    """Read the YAML; paths and VTGate's address are those of this test, all else is as it says."""
    yaml = pytest.importorskip("yaml")
    documents = list(yaml.safe_load_all(CRONJOBS.read_text()))
    kinds = [document["kind"] for document in documents]
    assert kinds == ["Secret", "ConfigMap", "CronJob", "CronJob"]
    secret, config, *cronjobs = documents
    files = tmp_path / "config"
    files.mkdir()
    address = {
        "host": sandbox.host,
        "grpc_port": sandbox.grpc_port,
        "mysql_port": sandbox.mysql_port,
        "keyspaces": ["shop"],
    }
    for name, text in config["data"].items():
        here = text.replace("/config", str(files)).replace("/data", str(tmp_path / "out"))
        if name == "vitess.json":
            here = json.dumps({**json.loads(text), **address})
        (files / name).write_text(here)
    commands = {}
    for cronjob in cronjobs:
        spec = cronjob["spec"]
        assert spec["concurrencyPolicy"] == "Forbid"
        pod = spec["jobTemplate"]["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
        [mount], [volume] = container["volumeMounts"], pod["volumes"]
        assert (mount["name"], mount["mountPath"]) == (volume["name"], "/config")
        assert volume["configMap"]["name"] == config["metadata"]["name"]
        command = [part.replace("/config", str(files)) for part in container["command"]]
        commands[command[-1]] = command
    assert commands.keys() == JOBS.keys()
    found = environment(targets.JSONL, **secret["stringData"])
    [ddl] = re.findall(r"#   (tap-vitess-mirror ddl .*)", CRONJOBS.read_text())
    subprocess.run(ddl.split(), cwd=files, env=found, check=True, stdout=subprocess.PIPE)
    return Pods(found, commands, processes)


@pytest.mark.environments
def test_the_pods_commands_copy_and_follow(pods: Pods, sandbox: Sandbox, tmp_path: Path) -> None:
    """Each job goes on from what its own row of the mirror confirms."""
    cluster, out = sandbox.cluster, Out(tmp_path / "out")
    for job in JOBS:
        pods.run(job)
    out.check(cluster, *TABLES)
    counts = {table: len(out.records(table)) for table in TABLES}
    _change(cluster, 20)
    for job in JOBS:
        pods.run(job)
    out.check(cluster, *TABLES)
    for table in TABLES:
        assert out.ops(table, counts[table]) == {"insert", "update", "delete"}
    rows = cluster.rows("main", "tap_vitess_mirror")
    confirmed = {(row["name"] or b"").decode(): json.loads(row["confirmed"] or b"") for row in rows}
    assert {job: _tables(state) for job, state in confirmed.items()} == {
        job: set(tables) for job, tables in OF_JOB.items()
    }


@pytest.mark.environments
def test_a_pod_that_is_told_to_end_does_so_at_a_boundary(
    pods: Pods, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The shell passes the signal on to the tap alone, and what has come is confirmed."""
    cluster, out = sandbox.cluster, Out(tmp_path / "out")
    sandbox.faults.append(Fault(stall_after_events=3))
    process = pods.begin("rest")
    _wait_for_a_stream(sandbox, process)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + signal.SIGTERM, log
    assert "ended by signal 15; the next run resumes here" in log
    [row] = cluster.rows("main", "tap_vitess_mirror")
    assert row["confirmed"] is not None
    pods.run("rest")
    out.check(cluster, *OF_JOB["rest"])
