"""Discovery against the sandbox: names, keys, what is left out, and the sample catalogs.

To write the samples anew: TAP_VITESS_WRITE_SAMPLES=1 pytest tests/test_discovery.py
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from support.shops import everything, three_tables
from support.taps import (
    ImpatientTap,
    QuickTap,
    Target,
    discover,
    expected,
    run,
    settings,
)

from tap_vitess.config import Config
from tap_vitess.doctor.commands import read_catalog
from tap_vitess.errors import (
    CatalogError,
    ConfigError,
    RetriableError,
)
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault, Faults
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.sample import sample_cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.survey.discovery import absence
from tap_vitess.survey.facts import Tablet

SAMPLES = Path(__file__).parents[1] / "catalog_samples"


def catalog(cluster: Cluster, **more: Any) -> dict[str, Any]:
    with serve(cluster) as sandbox:
        return discover(settings(sandbox, **more))


def streams(found: dict[str, Any]) -> dict[str, list[str]]:
    """List stream -> key of a catalog."""
    return {stream["tap_stream_id"]: stream["key_properties"] for stream in found["streams"]}


@pytest.mark.parametrize(
    ("name", "cluster"), [("sandbox", lambda: sample_cluster(rows=1)), ("types", everything)]
)
def test_samples_are_what_discovery_writes(name: str, cluster: Any) -> None:
    """catalog_samples/ is true today."""
    found = catalog(cluster())
    path = SAMPLES / f"{name}.json"
    if os.environ.get("TAP_VITESS_WRITE_SAMPLES"):
        path.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(path.read_text())


def odd() -> Cluster:
    """Make keyspaces and tables with names and keys that are legal and unusual."""
    cluster = Cluster()
    integer, text = Column("a", "int", nullable=False), Column("b b", "varchar(5)", nullable=False)
    cluster.create_keyspace("my-ks", ["0"])
    cluster.create_keyspace("other", ["-80", "80-"])
    for table in (
        Table("composite", (integer, text), primary_key=("b b", "a")),
        Table("unique key", (integer, text), unique_keys=(("a", "b b"), ("b b",))),
        Table("nullable_unique", (Column("a", "int"), text), unique_keys=(("a",),)),
        Table("keyless.ü", (integer, text)),
        Table("select", (integer, text), primary_key=("a",)),
        Table("_vt_hld_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_", (integer,)),
        Table("_4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_vrepl", (integer,)),
        Table("_mine", (integer,), primary_key=("a",)),
    ):
        cluster.create_table("my-ks", table)
    cluster.create_table("other", Table("t", (integer, text), primary_key=("a",)))
    return cluster


def test_keys_and_names() -> None:
    """The primary key in index order, else the shortest NOT NULL unique key, else none."""
    assert streams(catalog(odd())) == {
        "my-ks-_mine": ["a"],
        "my-ks-composite": ["b b", "a"],
        "my-ks-keyless.ü": [],
        "my-ks-nullable_unique": [],
        "my-ks-select": ["a"],
        "my-ks-unique key": ["b b"],
        "other-t": ["a"],
    }


def test_the_catalog_says_what_a_stream_is() -> None:
    """LOG_BASED, the keyspace as schema-name, keys required and all else nullable."""
    stream = next(s for s in catalog(odd())["streams"] if s["tap_stream_id"] == "my-ks-composite")
    assert stream["replication_method"] == "LOG_BASED"
    metadata = {tuple(m["breadcrumb"]): m["metadata"] for m in stream["metadata"]}
    assert metadata[()]["schema-name"] == "my-ks"
    assert metadata[()]["table-key-properties"] == ["b b", "a"]
    automatic = {b[1] for b, m in metadata.items() if b and m["inclusion"] == "automatic"}
    assert automatic >= {"a", "b b", "_sdc_deleted_at", "_sdc_vitess_op", "_sdc_vitess_seq"}
    assert stream["schema"]["required"] == ["b b", "a"]
    nullable = {n for n, p in stream["schema"]["properties"].items() if "null" in p["type"]}
    assert not nullable & {"a", "b b"}


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"keyspaces": ["other"]}, {"other-t"}),
        ({"tables": ["*.t", "my-ks.sel*"]}, {"other-t", "my-ks-select"}),
        ({"keyspaces": ["my-ks"], "exclude_tables": ["*.[!c]*"]}, {"my-ks-composite"}),
    ],
)
def test_the_settings_choose(more: dict[str, Any], names: set[str]) -> None:
    """Keyspaces by name, tables by pattern."""
    assert streams(catalog(odd(), **more)).keys() == names


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"keyspaces": ["nope", "other"]},
            "setting keyspaces: VTGate does not know nope; it knows",
        ),
        ({"tables": ["other.t", "othr.*"]}, "setting tables: othr.\\* matches no table"),
        ({"exclude_tables": ["*"]}, "there is no table to read in my-ks, other"),
    ],
)
def test_what_matches_nothing_is_named(more: dict[str, Any], words: str) -> None:
    """One sentence that says which setting and what there is."""
    with pytest.raises(ConfigError, match=words):
        catalog(odd(), **more)


OTHER = "table_schema = 'other'"


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"keyspaces": ["other"]}], ids=["unnamed", "named"])
@pytest.mark.parametrize("question", ["tables", "columns", "statistics"])
def test_a_keyspace_without_a_tablet_for_a_while(
    more: dict[str, Any], question: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a reshard or a failover: it is waited for, and none of its tables is missing."""
    statement = f"from information_schema.{question} where {OTHER}"
    faults = Faults([Fault(no_tablet_for=statement, times=3)])
    with serve(odd(), faults=faults) as sandbox:
        found = discover(settings(sandbox, **more), QuickTap)
    assert not faults, "the fault did not come"
    assert "other-t" in streams(found)
    assert "the tables of other: a shard has no tablet of this type (now)" in caplog.text
    assert "no healthy tablet available); trying again in" in caplog.text
    assert "left out" not in caplog.text


@pytest.mark.parametrize("more", [{}, {"keyspaces": ["my-ks", "other"]}, {"tables": ["*.t"]}])
def test_a_keyspace_that_stays_without_a_tablet(more: dict[str, Any]) -> None:
    """It has tablets, so it is an error: a catalog that lacks it would be kept and never missed."""
    faults = Faults([Fault(no_tablet_for=OTHER, times=None)])
    with (
        serve(odd(), faults=faults) as sandbox,
        pytest.raises(RetriableError, match=r"keyspace other: .* no tablet of this type"),
    ):
        discover(settings(sandbox, **more), ImpatientTap)


@pytest.mark.parametrize(
    "more",
    [
        {"keyspaces": ["my-ks"]},
        {"tables": ["my-ks.*", "my-ks.sel*"]},
        {"exclude_tables": ["ot*.*"]},
    ],
)
def test_a_keyspace_that_is_not_wanted_is_not_asked(more: dict[str, Any]) -> None:
    """So nothing is waited for."""
    faults = Faults([Fault(no_tablet_for=OTHER, times=None)])
    with serve(odd(), faults=faults) as sandbox:
        found = discover(settings(sandbox, **more), ImpatientTap)
    assert {name.partition("-")[0] for name in streams(found)} == {"my"}


def test_a_keyspace_without_any_tablet_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing will serve it soon: VTGate has had the time to see those of other keyspaces."""
    cluster = odd()
    cluster.create_keyspace("dead", ["0"])
    cluster.shard("dead", "0").serving = False
    cluster.drop_old_shards("dead")
    faults = Faults([Fault(no_tablet_for="table_schema = 'dead'", times=None)])
    with serve(cluster, faults=faults) as sandbox:
        discover(settings(sandbox), QuickTap)
    assert "keyspace dead is left out: VTGate sees no tablet of it" in caplog.text


def restored() -> Cluster:
    """Make a keyspace beside others that has replicas only, as one restored from a backup."""
    cluster = odd()
    cluster.create_keyspace("snap", ["0"])
    cluster.create_table("snap", Table("s", (Column("id", "int", nullable=False),), ("id",)))
    cluster.insert("snap", "s", [{"id": b"7"}])
    cluster.shard("snap", "0").tablet_type = "REPLICA"
    return cluster


def test_a_keyspace_of_replicas_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """In seconds and with a warning, where no setting names it."""
    with serve(restored()) as sandbox:
        found = discover(settings(sandbox), QuickTap)
    assert {name.partition("-")[0] for name in streams(found)} == {"my", "other"}
    assert re.search(r"keyspace snap is left out: no tablet is a PRIMARY; .*REPLICA", caplog.text)


@pytest.mark.parametrize("more", [{"keyspaces": ["snap", "other"]}, {"tables": ["snap.*"]}])
def test_a_keyspace_of_replicas_that_is_named_is_an_error(more: dict[str, Any]) -> None:
    with (
        serve(restored()) as sandbox,
        pytest.raises(ConfigError, match=r"keyspace snap: no tablet is a PRIMARY.*tablet_type"),
    ):
        discover(settings(sandbox, **more), QuickTap)


def test_a_keyspace_of_replicas_is_read_from_them() -> None:
    """Discovery asks tablets of the type that streams come from."""
    target = Target()
    with serve(restored()) as sandbox:
        config = settings(sandbox, tablet_type="REPLICA", keyspaces=["snap"])
        assert streams(discover(config, QuickTap)).keys() == {"snap-s"}
        assert run(config, target)
    assert target.contents("snap-s") == [{"id": 7}]


def test_a_vtgate_that_sees_no_tablet_at_all_has_just_started() -> None:
    """Then nothing is left out, and neither is what a setting names."""
    config = Config.from_settings({"host": "h"})
    named = Config.from_settings({"host": "h", "keyspaces": ["ks"]})
    other = Tablet("zone1", "other", "0", "PRIMARY", "SERVING", "zone1-100", "h")
    down = Tablet("zone1", "ks", "0", "PRIMARY", "NOT_SERVING", "zone1-101", "h")
    assert absence([], "ks", config) is None
    assert absence([other, down], "ks", config) is None
    assert absence([other], "ks", named) is None
    assert absence([other], "ks", config) == "VTGate sees no tablet of it"


@pytest.mark.timeout(60)
def test_a_tablet_type_that_is_nowhere_ends_a_run() -> None:
    """Soon, with the setting and what there is; not after minutes."""
    with serve(odd()) as sandbox:
        config = settings(sandbox, keyspaces=["other"])
        catalog = discover(config)
        with pytest.raises(ConfigError, match=r"other: no tablet is a RDONLY; .*PRIMARY"):
            run({**config, "tablet_type": "RDONLY"}, Target(), catalog=catalog)


@pytest.mark.timeout(60)
def test_a_keyspace_of_replicas_ends_a_run_that_wants_its_primary() -> None:
    """A catalog is given, so nothing is discovered; it is told as it is in discovery."""
    with serve(restored()) as sandbox:
        config = settings(sandbox, tablet_type="REPLICA", keyspaces=["snap"])
        catalog = discover(config)
        with pytest.raises(ConfigError, match=r"^keyspace snap: no tablet is a PRIMARY; .*REPLICA"):
            run({**config, "tablet_type": "PRIMARY"}, Target(), catalog=catalog)


@pytest.mark.timeout(60)
def test_cells_that_have_no_tablet(caplog: pytest.LogCaptureFixture) -> None:
    """An error where VTGate finds none elsewhere either, and a warning where it does."""
    cluster = restored()
    with serve(cluster, options=Options(tablet_wait=0.2)) as sandbox:
        config = settings(sandbox, tablet_type="REPLICA", keyspaces=["snap"], cells=["nope"])
        assert run(config, Target())
        assert "VTGate sees no REPLICA tablet in nope (setting cells)" in caplog.text
        cluster.shard("snap", "0").tablet_type = "RDONLY"
        with pytest.raises(ConfigError, match="setting cells: a stream finds no RDONLY tablet"):
            run({**config, "tablet_type": "RDONLY"}, Target())


@pytest.mark.parametrize("template", ["{keyspace}__{table}", "{table}", "x-{table}-{keyspace}"])
def test_stream_names(template: str, tmp_path: Path) -> None:
    """Discovered, run with the catalog, examined by the doctor; another template is refused."""
    cluster = three_tables()
    with serve(cluster) as sandbox:
        config, target = settings(sandbox, stream_name=template), Target()
        catalog = discover(config)
        name = template.replace("{keyspace}", "shop").replace("{table}", "alpha")
        assert name in streams(catalog)
        run(config, target, catalog=catalog)
        assert target.contents(name) == expected(cluster, "shop", "alpha")
        (tmp_path / "catalog.json").write_text(json.dumps(catalog))
        selected = read_catalog(str(tmp_path / "catalog.json"), Config.from_settings(config))
        assert selected["shop"]["alpha"] == ("id",)
        with pytest.raises(CatalogError, match="was made with another stream_name"):
            run({**config, "stream_name": "other-{table}"}, target, catalog=catalog)


def test_no_activate_version() -> None:
    """Two targets end at one, so it can be left out."""
    with serve(three_tables()) as sandbox:
        for wanted in (True, False):
            target = Target()
            run(settings(sandbox, emit_activate_version_messages=wanted), target)
            assert ("ACTIVATE_VERSION" in {m["type"] for m in target.messages}) is wanted


def test_two_tables_of_one_stream_name() -> None:
    """A hyphen may make two tables the same stream; that is refused and not guessed."""
    cluster = Cluster()
    for keyspace, name in (("a", "b-c"), ("a-b", "c")):
        cluster.create_keyspace(keyspace, ["0"])
        cluster.create_table(keyspace, Table(name, (Column("id", "int"),), primary_key=("id",)))
    with pytest.raises(CatalogError, match=r"both be the stream a-b-c.*exclude_tables"):
        catalog(cluster)
    assert streams(catalog(cluster, exclude_tables=["a.*"])).keys() == {"a-b-c"}


def test_odd_names_are_copied_and_followed() -> None:
    """Hyphens, spaces, dots, umlauts and reserved words in keyspace, table and column."""
    cluster = odd()
    tables = ["composite", "unique key", "keyless.ü", "select"]
    row = {"a": b"1", "b b": b"x"}
    with serve(cluster) as sandbox:
        config = settings(sandbox, keyspaces=["my-ks"])
        target = Target()
        for name in tables:
            cluster.insert("my-ks", name, [row])
        assert run(config, target)
        for name in tables:
            cluster.insert("my-ks", name, [{**row, "a": b"2", "b b": b"y"}])
        assert run(config, target)
    for name in tables:
        assert [r["a"] for r in target.records(f"my-ks-{name}")] == [1, 2], name


def test_with_a_catalog_the_database_is_not_asked_again() -> None:
    """Only positions and shards are asked for."""
    cluster = everything()
    with serve(cluster) as sandbox:
        config = settings(sandbox)
        found = discover(config)
        cluster.create_table("shop", Table("new", (Column("id", "int"),), primary_key=("id",)))
        target = Target()
        run(config, target, catalog=found)
    assert "shop-new" not in target.tables


def test_a_catalog_without_its_keyspace_is_refused() -> None:
    """A catalog of another tap says so at once."""
    with serve(everything()) as sandbox:
        config = settings(sandbox)
        found = discover(config)
        for metadata in found["streams"][0]["metadata"]:
            metadata["metadata"].pop("schema-name", None)
        with pytest.raises(CatalogError, match="discover again"):
            run(config, Target(), catalog=found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update(replication_method="INCREMENTAL"), "INCREMENTAL is not supported"),
        (lambda s: s["schema"]["properties"].pop("_sdc_deleted_at"), "lacks _sdc_deleted_at"),
    ],
)
def test_a_catalog_that_would_lose_something_is_refused(change: Any, words: str) -> None:
    """Before anything is read."""
    with serve(everything()) as sandbox:
        config = settings(sandbox)
        found = discover(config)
        change(found["streams"][0])
        with pytest.raises(CatalogError, match=words):
            run(config, Target(), catalog=found)


def test_a_source_column_of_our_own_name_is_refused() -> None:
    """It would be overwritten."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["0"])
    columns = (Column("id", "int"), Column("_sdc_deleted_at", "datetime"))
    cluster.create_table("shop", Table("t", columns, primary_key=("id",)))
    with serve(cluster) as sandbox, pytest.raises(CatalogError, match="exclude_tables"):
        discover(settings(sandbox))


def test_a_stream_map_must_keep_the_delete_marker(sandbox: Sandbox) -> None:
    """Deleted rows would come back as upserts."""
    maps = {"shop-alpha": {"id": "id", "name": "name", "__else__": None}}
    with pytest.raises(CatalogError, match="stream map shop-alpha drops _sdc_deleted_at"):
        run(settings(sandbox, stream_maps=maps), Target())


def test_a_float_is_no_key() -> None:
    """MySQL rounds it in a copy, so that its changes would match nothing."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["0"])
    columns = (Column("f", "float", nullable=False), Column("d", "double", nullable=False))
    cluster.create_table("shop", Table("float", columns, primary_key=("f",)))
    cluster.create_table("shop", Table("double", columns, primary_key=("d",)))
    with serve(cluster) as sandbox:
        streams = discover(settings(sandbox))["streams"]
    keys = {stream["stream"]: stream["key_properties"] for stream in streams}
    assert keys == {"shop-float": [], "shop-double": ["d"]}
