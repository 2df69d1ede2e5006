"""The real Meltano, on the repo's own meltano.yml and the Hub's file, against the sandbox.

The project is a copy, because Meltano writes into its folder, and the file itself is as it stands:
only VTGate's ports come from `.env`. What docs/meltano.md says is run here, word for word.

Surprising: the target is ended at the same moment as the tap, so a state that Meltano keeps of an
ended run is one that the target had told before.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from support import targets
from support.environments import install
from support.taps import Message, expected

from tap_vitess.config import SETTINGS
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Row, Table
from tap_vitess.sandbox.server import Fault, Options, Sandbox, serve

pytestmark = [pytest.mark.environments, pytest.mark.timeout(1000)]

ROOT = Path(__file__).parent.parent
HUB = ROOT / "meltano-hub" / "extractors" / "tap-vitess" / "tap-vitess.yml"
# The members of the Hub's own schema that Meltano's does not have.
HUB_ONLY = {"domain_url", "keywords", "maintenance_status", "quality"}
MELTANO = ("meltano==4.4.1",)
SECONDS = 240  # a command, on a machine that does other things too
# A target that stores, and tells its state, often.
OFTEN = """
    - name: target-duckdb-often
      inherit_from: target-duckdb
      config:
        batch_size_rows: 100
        flush_all_streams: true
"""

CUSTOMERS = Table(
    "customers",
    (
        Column("id", "bigint unsigned", nullable=False),
        Column("name", "varchar(80)"),
        Column("notes", "text"),
    ),
    primary_key=("id",),
)
ORDERS = Table(
    "orders",
    (
        Column("id", "int", nullable=False),
        Column("status", "enum('new','paid','shipped')"),
        Column("total", "decimal(12,2)"),
        Column("flags", "set('gift','express')"),
    ),
    primary_key=("id",),
)
PAGE_VIEWS = Table("page_views", (Column("path", "varchar(200)"),))
RETURNS = Table("returns", (Column("id", "int", nullable=False),), primary_key=("id",))
KEYED = ("customers", "orders")


def customers(numbers: range) -> list[Row]:
    return [{"id": b"%d" % n, "name": f"Zoë {n}".encode(), "notes": b"n"} for n in numbers]


def order(number: int, status: bytes) -> Row:
    return {"id": b"%d" % number, "status": status, "total": b"%d.50" % number, "flags": b"gift"}


def shop(rows: int) -> Cluster:
    """Make a shop with so many customers and orders, every third order a new one."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-80", "80-"])
    for table in (CUSTOMERS, ORDERS, PAGE_VIEWS):
        cluster.create_table("shop", table)
    cluster.insert("shop", "customers", customers(range(1, rows + 1)))
    orders = [order(n, b"paid" if n % 3 else b"new") for n in range(1, rows + 1)]
    cluster.insert("shop", "orders", orders)
    cluster.insert("shop", "page_views", [{"path": b"/p/%d" % n} for n in range(5)])
    return cluster


def documented() -> str:
    text = (ROOT / "docs" / "meltano.md").read_text(encoding="utf-8")
    return re.sub(r"\\\n +", "", text)


@dataclass(frozen=True)
class Project:
    """A folder with a meltano.yml."""

    folder: Path

    def start(self, command: str, log: Path, **env: str) -> subprocess.Popen[str]:
        """Start a `meltano ...`, with nothing set by the environment but what is given."""
        program, *arguments = shlex.split(command)
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("TAP_", "MELTANO_"))}
        quiet = {"NO_COLOR": "1", "MELTANO_CLI_DISABLE_VERSION_CHECK": "1"}
        with log.open("w") as stderr:
            return subprocess.Popen(
                [install(MELTANO) / program, *arguments],
                cwd=self.folder,
                env=kept | quiet | env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def do(self, command: str, **env: str) -> tuple[str, str]:
        """Do a `meltano ...` with success; return what it prints and its log."""
        log = self.folder / "log"
        with self.start(command, log, **env) as running:
            out, _ = running.communicate(timeout=SECONDS)
        assert running.returncode == 0, out + log.read_text()
        return out, log.read_text()

    def shown(self, command: str, **env: str) -> tuple[str, str]:
        """Do what the page shows."""
        assert command in documented()
        return self.do(command, **env)

    def configuration(self) -> Any:
        return yaml.safe_load((self.folder / "meltano.yml").read_text())

    def point_to(self, sandbox: Sandbox) -> None:
        (self.folder / ".env").write_text(
            f"TAP_VITESS_GRPC_PORT={sandbox.grpc_port}\nTAP_VITESS_MYSQL_PORT={sandbox.mysql_port}\n"
        )


@dataclass
class Output:
    """What target-jsonl has written."""

    folder: Path
    _seen: dict[str, int] = field(default_factory=dict)

    def records(self) -> dict[str, list[Message]]:
        return {
            path.stem.removeprefix("shop-"): _lines(path.read_text(encoding="utf-8"))
            for path in self.folder.glob("*.jsonl")
        }

    def fresh(self) -> dict[str, list[Message]]:
        """Return the records since the last call."""
        records = self.records()
        fresh = {table: found[self._seen.get(table, 0) :] for table, found in records.items()}
        self._seen = {table: len(found) for table, found in records.items()}
        return {table: found for table, found in fresh.items() if found}

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Fold the records as documented: the highest sequence of each key, unless deleted."""
        records = sorted(self.records()[table], key=lambda record: record["_sdc_vitess_seq"])
        latest = {record["id"]: record for record in records}
        return own(record for record in latest.values() if record["_sdc_deleted_at"] is None)


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n") if line]


def own(records: Any) -> list[dict[str, Any]]:
    """Leave out the columns of tap and target, and sort as `expected` does."""
    rows = [{n: v for n, v in r.items() if not n.startswith("_sdc_")} for r in records]
    return sorted(rows, key=json.dumps)


def told(fresh: dict[str, list[Message]]) -> dict[str, set[tuple[str, int]]]:
    """Reduce records to operations and keys; the lengths must be checked beside it."""
    return {
        table: {(record["_sdc_vitess_op"], record.get("id", 0)) for record in records}
        for table, records in fresh.items()
    }


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with serve(shop(60)) as served:
        yield served


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Project:
    """Copy meltano.yml and what its `pip_url: -e .` needs, and install all plugins."""
    made = Project(tmp_path_factory.mktemp("meltano"))
    for name in ("meltano.yml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, made.folder)
    (made.folder / "tap_vitess").symlink_to(ROOT / "tap_vitess")
    made.point_to(sandbox)
    _, log = made.shown("meltano install")
    assert "Installed 3/3 plugins" in log
    return made


@pytest.fixture(scope="module")
def output(project: Project, sandbox: Sandbox) -> Output:
    """Copy all into target-jsonl: everything once, and nothing else."""
    made = Output(project.folder / "output")
    project.shown("meltano run tap-vitess target-jsonl")
    for table, records in made.fresh().items():
        assert {record["_sdc_vitess_op"] for record in records} == {"copy"}
        assert own(records) == expected(sandbox.cluster, "shop", table)
    assert made.records().keys() == {"customers", "orders", "page_views"}
    return made


@pytest.fixture
def changed(project: Project, tmp_path: Path) -> Project:
    """Make a project with the page's plugin more, over the environments that are there already."""
    made = Project(tmp_path)
    (tmp_path / ".meltano").mkdir()
    for kind in ("extractors", "loaders"):
        (tmp_path / ".meltano" / kind).symlink_to(project.folder / ".meltano" / kind)
    [plugin] = re.findall(r"```yaml\n(    - .*?)```", documented(), re.DOTALL)
    head, loaders, tail = (ROOT / "meltano.yml").read_text().partition("  loaders:\n")
    (tmp_path / "meltano.yml").write_text(head + plugin + loaders + tail.rstrip() + OFTEN)
    return made


def test_the_plugin_answers(project: Project) -> None:
    """--about knows every setting, and Meltano's own test of the configuration passes."""
    about, _ = project.do("meltano invoke tap-vitess --about --format=json")
    assert SETTINGS.keys() <= json.loads(about)["settings"]["properties"].keys()
    out, _ = project.shown("meltano config test tap-vitess")
    assert out == "Plugin configuration is valid\n"
    assert out in documented()


def test_the_doctor_by_meltano(project: Project) -> None:
    """With the settings of the project."""
    command = "meltano invoke tap-vitess:doctor"
    assert command in documented()
    log = project.folder / "doctor.log"
    with project.start(command, log) as running:
        out, _ = running.communicate(timeout=SECONDS)
    assert "a VStream opens on every shard" in out, log.read_text()
    assert "0 errors, 1 warning" in out  # a table without a key
    assert running.returncode == 3


def test_a_number_with_a_fraction(project: Project, output: Output) -> None:
    """In the environment, where Meltano takes none for an integer; the tap reads it."""
    assert output.records()
    out, _ = project.do("meltano config print tap-vitess", TAP_VITESS_PROGRESS_SECONDS="0.5")
    assert json.loads(out)["progress_seconds"] == "0.5"
    _, log = project.do("meltano run tap-vitess target-jsonl", TAP_VITESS_PROGRESS_SECONDS="0.5")
    assert "shop: no further changes in 3 tables" in log


def test_runs_into_jsonl(project: Project, sandbox: Sandbox, output: Output) -> None:
    """From the second run on exactly the changes come, deletes included, or nothing."""
    cluster = sandbox.cluster
    cluster.insert("shop", "customers", customers(range(1001, 1003)))
    cluster.update("shop", "customers", {"id": b"5"}, {"notes": None})
    cluster.update("shop", "customers", {"id": b"6"}, {"id": b"1006"})
    cluster.delete("shop", "customers", {"id": b"7"})
    cluster.delete("shop", "orders", {"id": b"8"})
    cluster.insert("shop", "page_views", [{"path": b"/new"}])
    project.shown("meltano run tap-vitess target-jsonl")
    fresh = output.fresh()
    assert told(fresh) == {
        "customers": {
            *(("insert", number) for number in (1001, 1002, 1006)),
            ("update", 5),
            *(("delete", number) for number in (6, 7)),
        },
        "orders": {("delete", 8)},
        "page_views": {("insert", 0)},
    }
    assert {table: len(records) for table, records in fresh.items()} == {
        "customers": 6,
        "orders": 1,
        "page_views": 1,
    }
    for table in KEYED:
        assert output.rows(table) == expected(cluster, "shop", table)
    _, log = project.shown("meltano run tap-vitess target-jsonl")
    assert output.fresh() == {}
    assert "shop: no further changes in 3 tables" in log
    assert (project.folder / "meltano.yml").read_bytes() == (ROOT / "meltano.yml").read_bytes()


def test_runs_into_duckdb(project: Project, sandbox: Sandbox) -> None:
    """The target's tables are those of the source after the copy and after changes."""
    cluster = sandbox.cluster

    def compare() -> None:
        warehouse = project.folder / ".meltano" / "warehouse.duckdb"
        for table in KEYED:
            rows = targets.read_duckdb(warehouse, f"vitess.{table}")
            assert own(rows) == expected(cluster, "shop", table)

    project.shown("meltano run tap-vitess target-duckdb")
    compare()
    cluster.insert("shop", "customers", customers(range(2001, 2003)))
    cluster.update("shop", "orders", {"id": b"9"}, {"total": b"0.01"})
    cluster.delete("shop", "customers", {"id": b"10"})
    _, log = project.shown("meltano run tap-vitess target-duckdb")
    compare()
    assert "shop-customers: 2 inserts, 1 delete in" in log
    assert "shop-orders: 1 update in" in log


def test_full_refresh_after_a_reshard(project: Project, sandbox: Sandbox, output: Output) -> None:
    """Meltano merges the state of a full refresh into the old one: no old shard survives in it."""
    cluster = sandbox.cluster
    cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    cluster.drop_old_shards("shop")
    output.fresh()
    project.shown("meltano run --full-refresh tap-vitess target-jsonl")
    fresh = output.fresh()
    for table in (*KEYED, "page_views"):
        assert {record["_sdc_vitess_op"] for record in fresh[table]} == {"copy"}
        assert own(fresh[table]) == expected(cluster, "shop", table)
    state = json.loads(project.do("meltano state get dev:tap-vitess-to-target-jsonl")[0])
    [group] = state["singer_state"]["bookmarks"]["vitess:shop"]["groups"]
    shards = [one["shard"] for one in json.loads(group["vgtid"])["shard_gtids"]]
    assert sorted(shards) == ["-40", "40-80", "80-"]
    cluster.update("shop", "orders", {"id": b"11"}, {"status": b"shipped"})
    project.shown("meltano run tap-vitess target-jsonl")
    assert told(output.fresh()) == {"orders": {("update", 11)}}


def test_full_refresh_of_some_streams(project: Project, output: Output) -> None:
    """It makes the others lose their place, and says so; resync_tables does not."""
    run = "meltano run tap-vitess target-jsonl"

    def copied() -> set[str]:
        fresh = output.fresh().items()
        return {t for t, found in fresh if "copy" in {r["_sdc_vitess_op"] for r in found}}

    project.do(run)
    output.fresh()
    _, log = project.do(run, TAP_VITESS_RESYNC_TABLES='["shop.orders"]')
    assert "shop.orders: copied again from the start" in log
    assert copied() == {"orders"}
    _, log = project.do(
        run.replace("run", "run --full-refresh"), TAP_VITESS__SELECT_FILTER='["shop-orders"]'
    )
    assert "no state is given, and 1 of 3 streams are selected" in log
    assert copied() == {"orders"}
    state = json.loads(project.do("meltano state get dev:tap-vitess-to-target-jsonl")[0])
    [group] = state["singer_state"]["bookmarks"]["vitess:shop"]["groups"]
    assert group["tables"] == ["orders"]
    project.do(run)
    assert copied() == {"customers", "page_views"}


def test_select_and_stream_maps(changed: Project, sandbox: Sandbox) -> None:
    """The page's plugin: what is not selected comes nowhere, and one stream is mapped.

    The mapped stream alone goes record by record: the others have one moment a packet.
    """
    changed.point_to(sandbox)
    out, _ = changed.do("meltano invoke tap-vitess-part")
    messages = _lines(out)
    columns = {m["stream"]: m["schema"]["properties"] for m in messages if m["type"] == "SCHEMA"}
    assert columns.keys() == {"shop-customers", "orders"}
    assert "name" in columns["shop-customers"]
    assert "notes" not in columns["shop-customers"]
    assert "total" in columns["orders"]
    assert "flags" not in columns["orders"]
    assert columns["orders"]["euros"]["type"] == ["number", "null"]

    by_stream: dict[str, list[Message]] = {name: [] for name in columns}
    for message in messages:
        if message["type"] == "RECORD":
            by_stream[message["stream"]].append(message)
    for stream, found in by_stream.items():
        assert all(message["record"].keys() == columns[stream].keys() for message in found)
    sources = {table: expected(sandbox.cluster, "shop", table) for table in KEYED}
    assert {message["record"]["id"] for message in by_stream["shop-customers"]} == {
        row["id"] for row in sources["customers"]
    }
    assert {m["record"]["id"]: m["record"]["euros"] for m in by_stream["orders"]} == {
        row["id"]: float(row["total"]) for row in sources["orders"] if row["status"] != "new"
    }
    moments = {name: {m["time_extracted"] for m in found} for name, found in by_stream.items()}
    assert len(moments["shop-customers"]) <= len(sandbox.cluster.shards("shop"))
    assert len(moments["orders"]) > len(by_stream["orders"]) / 2


def wait_for(ready: Callable[[], bool], running: subprocess.Popen[str], log: Path) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def test_sigterm_in_mid_copy(changed: Project) -> None:
    """The tap ends at a boundary, and the next run goes on from the state that Meltano has."""
    run = "meltano run tap-vitess target-duckdb-often"
    env = {"TAP_VITESS_TABLES": '["shop.customers"]', "TAP_VITESS_CHECKPOINT_SECONDS": "0"}
    cluster = shop(1500)
    with serve(cluster, options=Options(copy_rows_per_packet=50)) as sandbox:
        changed.point_to(sandbox)
        sandbox.faults.append(Fault(stall_after_events=600, times=None))
        log = changed.folder / "ended.log"
        with changed.start(run, log, **env) as running:
            wait_for(lambda: "Incremental state has been" in log.read_text(), running, log)
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=SECONDS)
        assert running.returncode == 128 + signal.SIGTERM, log.read_text()
        assert "ended by signal 15; the next run resumes here" in log.read_text()
        sandbox.faults.clear()
        cluster.delete("shop", "customers", {"id": b"1"})
        _, words = changed.do(run, **env)
        assert "shop.customers: copying continues" in words
        [copied] = re.findall(r"shop-customers: ([\d,]+) rows copied", words)
        assert 0 < int(copied.replace(",", "")) < 1500
        rows = targets.read_duckdb(
            changed.folder / ".meltano" / "warehouse.duckdb", "vitess.customers"
        )
        assert own(rows) == expected(cluster, "shop", "customers")


def test_batches_into_postgres(project: Project, sandbox: Sandbox, tmp_path: Path) -> None:
    """What docs/batch.md has for meltano.yml is all that it takes."""
    batching = Project(tmp_path)
    (tmp_path / ".meltano").mkdir()
    plugins = project.folder / ".meltano" / "extractors"
    (tmp_path / ".meltano" / "extractors").symlink_to(plugins)
    [shown] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/batch.md").read_text(), re.DOTALL)
    [more] = yaml.safe_load(shown)["plugins"]["extractors"]
    file = yaml.safe_load((ROOT / "meltano.yml").read_text())
    [plugin] = file["plugins"]["extractors"]
    assert more.pop("name") == plugin["name"]
    plugin["config"] |= more.pop("config")
    assert not more
    known = [{"name": name} for name in ("sqlalchemy_url", "default_target_schema")]
    loader = {"name": "target-postgres", "namespace": "target_postgres", "settings": known}
    executable = str(install(targets.POSTGRES) / "target-postgres")
    config = {"default_target_schema": "shop"}
    file["plugins"]["loaders"] = [{**loader, "executable": executable, "config": config}]
    (tmp_path / "meltano.yml").write_text(yaml.safe_dump(file))
    batching.point_to(sandbox)
    cluster = sandbox.cluster
    with targets.postgres() as address:
        place = {"TARGET_POSTGRES_SQLALCHEMY_URL": address.replace("sql:", "sql+psycopg:")}
        for number in (3, 4):
            _, log = batching.do("meltano run tap-vitess target-postgres", **place)
            assert "rows go into files in batches" in log
            rows = targets.read_postgres(address, '"shop"."customers"')
            here = {row["id"]: row["name"] for row in rows if row["_sdc_deleted_at"] is None}
            source = cluster.rows("shop", "customers")
            assert here == {int(r["id"] or 0): (r["name"] or b"").decode() for r in source}
            cluster.insert("shop", "customers", customers(range(1000 * number, 1000 * number + 2)))
            cluster.delete("shop", "customers", {"id": b"%d" % number})
    assert list((tmp_path / "batches").glob("tap-vitess-*-shop-customers.jsonl.gz"))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """Return Meltano's own schema of meltano.yml, out of its package."""
    packages = install(MELTANO).parent.glob("lib/python*/site-packages")
    [path] = [found / "meltano" / "schemas" / "meltano.schema.json" for found in packages]
    schema = json.loads(path.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_meltano_yml_fits_its_schema(validator: Draft202012Validator) -> None:
    validator.validate(yaml.safe_load((ROOT / "meltano.yml").read_text()))


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Add the plugin to an empty project, with the clone beside meltano.yml."""
    made = Project(tmp_path_factory.mktemp("added"))
    (made.folder / "meltano.yml").write_text(
        "default_environment: dev\n"
        "environments: [{name: dev}]\n"
        "send_anonymous_usage_stats: false\n"
        "venv: {backend: uv}\n"
    )
    (made.folder / "tap-vitess").symlink_to(ROOT)
    made.shown(
        "meltano add tap-vitess --plugin-type extractor --no-install "
        "--from-ref tap-vitess/meltano-hub/extractors/tap-vitess/tap-vitess.yml"
    )
    return made


def test_the_definition_for_the_hub(added: Project, validator: Draft202012Validator) -> None:
    """The project has the plugin with all its settings, which the environment can set."""
    definition = yaml.safe_load(HUB.read_text())
    validator.validate(added.configuration())
    [plugin] = added.configuration()["plugins"]["extractors"]
    assert plugin == {name: value for name, value in definition.items() if name not in HUB_ONLY}
    given = {
        "host": "vtgate",
        "password": "nobody-may-see",
        "grpc_headers": {"authorization": "nor this"},
        "tables": ["shop.*"],
        "tls": True,
        "checkpoint_seconds": 2,
    }
    env = {
        f"TAP_VITESS_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in given.items()
    }
    out, _ = added.shown("meltano config print tap-vitess", **env)
    defaults = {n: schema["default"] for n, schema in SETTINGS.items() if "default" in schema}
    hidden = {n: "*****" for n, schema in SETTINGS.items() if schema.get("secret")}
    text = {"checkpoint_seconds": "2"}  # which the tap reads as a number
    assert json.loads(out) == defaults | given | hidden | text


def test_the_catalog_that_meltano_has_cached(added: Project, project: Project) -> None:
    """A new column comes all the same, a new table when the catalog is made anew.

    Meltano caches the catalog of a tap that is not installed as editable.
    """
    plugins = (configuration := added.configuration())["plugins"]
    plugins["extractors"][0]["pip_url"] = "./tap-vitess"
    plugins["loaders"] = project.configuration()["plugins"]["loaders"]
    (added.folder / "meltano.yml").write_text(yaml.safe_dump(configuration))
    (added.folder / ".meltano" / "loaders").symlink_to(project.folder / ".meltano" / "loaders")
    cluster, env = shop(3), {"TAP_VITESS_HOST": "127.0.0.1"}
    output = Output(added.folder / "output")
    with serve(cluster) as sandbox:
        added.point_to(sandbox)
        _, log = added.shown("meltano run tap-vitess target-jsonl", **env)
        assert "Installed extractor 'tap-vitess'" in log
        assert output.fresh().keys() == {"customers", "orders", "page_views"}
        columns = (*CUSTOMERS.columns, Column("tier", "int"))
        wider = Table("customers", columns, primary_key=("id",))
        cluster.ddl("shop", "alter table customers add column tier int", wider)
        cluster.update("shop", "customers", {"id": b"2"}, {"tier": b"7"})
        cluster.create_table("shop", RETURNS)
        cluster.insert("shop", "returns", [{"id": b"1"}])
        added.shown("meltano run tap-vitess target-jsonl", **env)
        fresh = output.fresh()
        assert told(fresh) == {"customers": {("update", 2)}}
        assert [record["tier"] for record in fresh["customers"]] == [7]
        added.shown("meltano run --refresh-catalog tap-vitess target-jsonl", **env)
        assert told(output.fresh()) == {"returns": {("copy", 1)}}


def test_every_command_of_the_readme_is_run_here() -> None:
    here = re.sub(r'"\n +"', "", Path(__file__).read_text(encoding="utf-8"))
    run = re.findall(r'(?:\.shown\(|command =)\s*"(meltano .*?)"', here)
    commands = re.findall(r"(?:^\$ |^|`)(meltano [^`#\n]*[^`# \n])", documented(), re.MULTILINE)
    assert set(commands) == set(run)
