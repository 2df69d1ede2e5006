"""The examples that split one table over key ranges: four processes over four shards, one Postgres.

As in `test_splitting.py`, pods are what their YAML says, run by bash; Dagster is the released one.
Pods that fail are started again, as Kubernetes does: in a first run several targets may try to
create the table.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support import targets
from support.environments import install
from support.processes import Processes, environment
from support.shops import served
from support.taps import expected

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox

EXAMPLES = Path(__file__).parent.parent / "examples"
SHARDS = ("-40", "40-80", "80-c0", "c0-")
JOBS = {"orders": {"tables": ["shop.orders"], "shards": [*SHARDS]}, "rest": ["*"]}
DAGSTER = ("dagster==1.13.29",)
SECONDS = 200
STARTS = 4  # of a pod or a partition: the first one, and three more


def four_shards() -> Cluster:
    """Make a keyspace of orders, beside one for the mirror."""
    cluster = Cluster()
    cluster.create_keyspace("shop", SHARDS)
    cluster.create_keyspace("main", ["0"])
    for name in ("orders", "views"):
        columns = (Column("id", "int", nullable=False), Column("v", "varchar(20)"))
        cluster.create_table("shop", Table(name, columns, primary_key=("id",)))
    _insert(cluster, range(200))
    return cluster


def _insert(cluster: Cluster, ids: range) -> None:
    cluster.insert("shop", "orders", [{"id": b"%d" % i, "v": b"v%d" % i} for i in ids])


def change(cluster: Cluster) -> None:
    """Insert, update and delete on all shards."""
    _insert(cluster, range(200, 260))
    for i in range(0, 200, 5):
        cluster.update("shop", "orders", {"id": b"%d" % i}, {"v": b"changed"})
        cluster.delete("shop", "orders", {"id": b"%d" % (i + 1)})


pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.environments,
    served(four_shards, username="etl", password="change-me"),
]


@pytest.fixture
def database() -> Iterator[str]:
    """Return the address of a Postgres of the test's own."""
    with targets.postgres() as address:
        yield address


def check(database: str, cluster: Cluster) -> None:
    """Compare the one table of the target with the source."""
    found = [
        {"id": row["id"], "v": row["v"]}
        for row in targets.read_postgres(database, '"shop"."orders"')
        if row["_sdc_deleted_at"] is None
    ]
    assert sorted(found, key=json.dumps) == expected(cluster, "shop", "orders")


def asked_for(sandbox: Sandbox) -> set[tuple[str, ...]]:
    """Return the shards of each request for rows, and forget them."""
    found = {tuple(s.shard for s in request.vgtid.shard_gtids) for request in sandbox.requests}
    sandbox.requests.clear()
    return found


def bring(begin: Callable[[str], subprocess.Popen[str]], starts: int = STARTS) -> None:
    """Run all ranges beside each other; begin those again that fail."""
    waiting = [*SHARDS]
    for _ in range(starts):
        running = [(shard, begin(shard)) for shard in waiting]
        told = {shard: process.communicate(timeout=SECONDS) for shard, process in running}
        waiting = [shard for shard, process in running if process.returncode]
    assert not waiting, told


def test_the_pages_have_the_example() -> None:
    page = (EXAMPLES.parent / "docs" / "operating.md").read_text(encoding="utf-8")
    assert json.dumps(JOBS) in page


def _with_driver(database: str) -> str:
    return database.replace("postgresql://", "postgresql+psycopg://")


# Kubernetes


def test_the_pods_of_an_indexed_job_fill_one_table(
    sandbox: Sandbox, database: str, tmp_path: Path
) -> None:
    """Each by its index has its range and its row of the mirror, and resumes there."""
    yaml = pytest.importorskip("yaml")
    text = (EXAMPLES / "kubernetes" / "shards.yaml").read_text()
    secret, config, cronjob = yaml.safe_load_all(text)
    job = cronjob["spec"]["jobTemplate"]["spec"]
    assert cronjob["spec"]["concurrencyPolicy"] == "Forbid"
    assert (job["completionMode"], job["parallelism"]) == ("Indexed", job["completions"])
    assert job["completions"] == len(config["data"]["ranges"].split()) == len(SHARDS)
    [container] = job["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    [mount], [volume] = container["volumeMounts"], job["template"]["spec"]["volumes"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], "/config")
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    where = {"host": sandbox.host, "grpc_port": sandbox.grpc_port, "mysql_port": sandbox.mysql_port}
    for name, content in config["data"].items():
        here = content.replace("/config", str(tmp_path))
        if name == "vitess.json":
            here = json.dumps({**json.loads(content), **where})
        (tmp_path / name).write_text(here)
    secret["stringData"]["TARGET_POSTGRES_SQLALCHEMY_URL"] = _with_driver(database)
    variables = environment(targets.POSTGRES, **secret["stringData"])
    [ddl] = re.findall(r"#   (tap-vitess-mirror ddl .*)", text)
    subprocess.run(ddl.split(), cwd=tmp_path, env=variables, check=True, stdout=subprocess.PIPE)
    command = [part.replace("/config", str(tmp_path)) for part in container["command"]]
    with Processes() as processes:

        def begin(shard: str) -> subprocess.Popen[str]:
            index = {"JOB_COMPLETION_INDEX": str(SHARDS.index(shard))}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            return processes.begin(command, env={**variables, **index}, **pipes)

        bring(begin)
        check(database, sandbox.cluster)
        assert asked_for(sandbox) == {(shard,) for shard in SHARDS}
        change(sandbox.cluster)
        bring(begin, starts=1)
        check(database, sandbox.cluster)
    rows = sandbox.cluster.rows("main", "tap_vitess_mirror")
    confirmed = {(row["name"] or b"").decode(): json.loads(row["confirmed"] or b"") for row in rows}
    assert {name: shards_of(state) for name, state in confirmed.items()} == {
        f"orders:{shard}": {shard} for shard in SHARDS
    }


def shards_of(state: Mapping[str, Any]) -> set[str]:
    """Name the shards that a state has a position of."""
    [group] = state["bookmarks"]["vitess:shop"]["groups"]
    return {one["shard"] for one in json.loads(group["vgtid"])["shard_gtids"]}


# Dagster

_RUN = """
import sys
from definitions import definitions
definitions.get_job_def("orders_job").execute_in_process(partition_key=sys.argv[1])
"""
_SCHEDULED = """
import json, dagster as dg
from definitions import definitions
found = {}
for schedule in definitions.schedules:
    context = dg.build_schedule_context(repository_def=definitions.get_repository_def())
    requests = schedule.evaluate_tick(context).run_requests
    found[schedule.job_name] = [request.partition_key for request in requests]
print(json.dumps(found))
"""


def test_dagsters_static_partitions_fill_one_table(
    sandbox: Sandbox, database: str, tmp_path: Path
) -> None:
    """Each has a folder and a state, and their schedule runs all of them."""
    where = {"host": sandbox.host, "grpc_port": sandbox.grpc_port, "mysql_port": sandbox.mysql_port}
    login = {"user": "etl", "password": "change-me"}
    files = {
        "vitess.json": {**where, **login, "keyspaces": ["shop"]},
        "target.json": {
            "sqlalchemy_url": _with_driver(database),
            "default_target_schema": "shop",
        },
        "jobs.json": JOBS,
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    variables = environment(
        targets.POSTGRES,
        VITESS_JOBS=tmp_path,
        VITESS_TARGET="target-postgres",
        PYTHONPATH=EXAMPLES / "dagster",
    )
    command = [install(DAGSTER) / "python", "-c"]
    pipes = {"env": variables, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Processes() as processes:
        schedules = processes.begin([*command, _SCHEDULED], **pipes)
        bring(lambda shard: processes.begin([*command, _RUN, shard], **pipes), starts=1)
        check(database, sandbox.cluster)
        assert asked_for(sandbox) == {(shard,) for shard in SHARDS}
        told, log = schedules.communicate(timeout=SECONDS)
    assert schedules.returncode == 0, log
    assert json.loads(told) == {"orders_job": [*SHARDS], "rest_job": [None]}
    for shard in SHARDS:
        state = json.loads((tmp_path / "orders" / shard / "state.json").read_text())
        assert shards_of(state) == {shard}
