"""`source-vitess`, in a process of its own against the sandbox; each line is Airbyte's message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.airbyte import SECONDS, Connector, Destination, Done, messages
from support.certificates import Authority
from support.shops import everything, served
from support.taps import expected, settings

from tap_vitess import errors
from tap_vitess.airbyte.failures import FAILURE_TYPES, failure_type
from tap_vitess.airbyte.pasted import PASTED
from tap_vitess.airbyte.spec import config_of
from tap_vitess.airbyte.state import states_of
from tap_vitess.config import SETTINGS
from tap_vitess.errors import ConfigError, StateError, VitessError
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.vtgate import grpc as vstream_client
from tap_vitess.vtgate.tls import context

SECRET = "correct-horse"
TABLES = ("item", "tag")


def table(name: str, kind: str = "varchar(40)") -> Table:
    columns = (Column("id", "int", nullable=False), Column("text", kind))
    return Table(name, columns, primary_key=("id",))


def insert(cluster: Cluster, name: str, ids: range) -> None:
    rows = [{"id": b"%d" % i, "text": b"value-nobody-may-log"} for i in ids]
    cluster.insert("shop", name, rows)


def shop(rows: int = 50) -> Cluster:
    made = Cluster()
    made.create_keyspace("shop", ["-80", "80-"])
    for name in TABLES:
        made.create_table("shop", table(name))
        insert(made, name, range(rows))
    return made


pytestmark = [pytest.mark.slow, served(shop)]


@pytest.fixture
def connector(sandbox: Sandbox, tmp_path: Path) -> Connector:
    return Connector(tmp_path, settings(sandbox))


def check_equal(sandbox: Sandbox, destination: Destination, *names: str) -> None:
    for name in names or TABLES:
        assert destination.contents(name) == expected(sandbox.cluster, "shop", name)


def write(cluster: Cluster) -> None:
    """Insert, update, delete, and change a key."""
    insert(cluster, "item", range(9000, 9010))
    cluster.update("shop", "item", {"id": b"1"}, {"text": b"new"})
    cluster.update("shop", "item", {"id": b"2"}, {"id": b"9200"})
    cluster.delete("shop", "item", {"id": b"3"})


def the_error(done: Done) -> dict[str, Any]:
    """Return the one error of a sync: the STATE is out before it, and nothing secret is in it."""
    assert done.code == 1, done.errors
    assert SECRET not in str(done.messages) + done.errors
    records = done.of("RECORD")
    assert "value-nobody-may-log" not in str([m for m in done.messages if m["type"] != "RECORD"])
    kinds = [m["type"] if m["type"] != "TRACE" else m["trace"]["type"] for m in done.messages]
    if records:
        last = max(i for i, kind in enumerate(kinds) if kind == "RECORD")
        assert "STATE" in kinds[last : kinds.index("ERROR")]
    [error] = done.traces("ERROR")
    return error


# Settings, check, discover


def test_spec(tmp_path: Path) -> None:
    """Every setting, in Airbyte's words; secrets are strings, and marked."""
    done = Connector(tmp_path, {}).run("spec")
    [spec] = done.of("SPEC")
    schema = spec["connectionSpecification"]
    jsonschema.Draft7Validator.check_schema(schema)
    assert done.code == 0
    without = {
        *("metadata_columns", "resync_tables", "batch_keep_hours", "stream_name"),
        *("emit_activate_version_messages", "progress_seconds", "start_from_mirror", "shards"),
        *("mirror_keyspace", "mirror_table", "mirror_name"),
    }
    assert schema["properties"].keys() == (SETTINGS.keys() - without) | {*PASTED.values()}
    assert {n: p["type"] for n, p in schema["properties"].items() if p.get("airbyte_secret")} == {
        **dict.fromkeys(("password", "grpc_headers", *PASTED.values()), "string"),
    }
    assert [schema["properties"][n]["multiline"] for n in PASTED.values()] == [True] * 3
    orders = [p["order"] for p in schema["properties"].values()]
    assert orders == [*range(len(orders))]
    assert not {word for word in ("_sdc", "ACTIVATE", "FULL_TABLE") if word in json.dumps(spec)}
    defaults = {n: p["default"] for n, p in schema["properties"].items() if "default" in p}
    jsonschema.validate({"host": "h", **defaults}, schema)
    config_of({"host": "h", **defaults})


def test_headers_are_json_in_a_string() -> None:
    """Broken ones are not quoted."""
    assert config_of({"host": "h", "grpc_headers": '{"a": "b"}'}).grpc_headers == {"a": "b"}
    for wrong in (f"{{{SECRET}", f'"{SECRET}"', f'{{"a": ["{SECRET}"]}}'):
        with pytest.raises(ConfigError, match="setting grpc_headers") as found:
            config_of({"host": "h", "grpc_headers": wrong})
        assert SECRET not in str(found.value)


@pytest.mark.parametrize("one_line", [False, True], ids=["as it is", "in one line"])
def test_certificates_that_are_pasted(tmp_path: Path, *, one_line: bool) -> None:
    """They open the ports, and are in files that nobody else may read, gone with the process."""
    ours = Authority(tmp_path / "ours")
    client = ours.client()
    files = {"tls_ca_file": ours.ca_file, **client}
    texts = {PASTED[name]: Path(path).read_text() for name, path in files.items()}
    if one_line:
        texts = {name: " ".join(text.split("\n")) for name, text in texts.items()}
    with serve(shop(), tls=ours.server("127.0.0.1", clients=ours)) as sandbox:
        given = {**settings(sandbox), "tls": True, **texts}
        with vstream_client.connect(config_of(given)):
            pass
    tls = config_of(given).tls
    assert tls is not None
    assert tls.key_file is not None
    assert context(tls).cert_store_stats()["x509_ca"] == 1  # as the MySQL port has it
    folder = Path(tls.key_file).parent
    assert folder.stat().st_mode & 0o077 == 0
    assert Path(tls.key_file).read_text() == Path(client["tls_key_file"]).read_text()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tls_key_pem": SECRET}, "setting tls_key_pem: paste the text of a PEM file"),
        ({"tls_key_pem": 7}, "setting tls_key_pem: paste the text of a PEM file"),
        ({"tls_ca_pem": "x", "tls_ca_file": "/ca"}, "settings tls_ca_file and tls_ca_pem: give"),
    ],
)
def test_what_is_pasted_and_is_no_certificate(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        config_of({"host": "h", "tls": True, **more})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"mysql_port": 1}, "check the settings host and mysql_port"),
        ({"grpc_port": 1}, "check the settings host, grpc_port"),
        ({"password": "wrong"}, "refuses the user or the password"),
        ({"keyspaces": ["nope"]}, "VTGate does not know nope"),
        ({"grpc_port": "x"}, "setting grpc_port"),
    ],
)
def test_check(tmp_path: Path, change: dict[str, Any], words: str | None) -> None:
    """The answer is the status; a wrong setting is told in one sentence."""
    with serve(shop(), username="elt", password=SECRET) as sandbox:
        config = settings(sandbox, user="elt", password=SECRET, connect_timeout_seconds=3)
        done = Connector(tmp_path, config | change).run("check")
    [status] = done.of("CONNECTION_STATUS")
    assert done.code == 0
    assert status["status"] == ("FAILED" if words else "SUCCEEDED")
    assert (words or "") in status.get("message", "")
    assert SECRET not in str(status) + done.errors


def test_discover(connector: Connector) -> None:
    [found] = connector.run("discover").of("CATALOG")
    assert found["streams"] == [entry["stream"] for entry in connector.catalog()["streams"]]
    assert [(s["namespace"], s["name"]) for s in found["streams"]] == [("shop", t) for t in TABLES]
    assert all(s["source_defined_primary_key"] == [["id"]] for s in found["streams"])
    assert all(s["default_cursor_field"] == ["_ab_cdc_cursor"] for s in found["streams"])


def test_a_keyspace_without_a_tablet_for_a_while(connector: Connector, sandbox: Sandbox) -> None:
    """Discovery waits for it; a check says how it is now."""
    sandbox.faults.append(Fault(no_tablet_for="information_schema.columns", times=2))
    [found] = connector.run("discover").of("CATALOG")
    assert not sandbox.faults
    assert len(found["streams"]) == len(TABLES)
    connector.config["keyspaces"] = ["shop"]
    # It is asked for once more when VTGate has told that it has tablets.
    sandbox.faults.append(Fault(no_tablet_for="information_schema.columns", times=2))
    [status] = connector.run("check").of("CONNECTION_STATUS")
    assert "a shard has no tablet of this type" in status["message"]


def test_records_are_what_the_catalog_says(tmp_path: Path) -> None:
    """Of every type, copied and streamed."""
    with serve(everything()) as sandbox:
        connector = Connector(tmp_path, settings(sandbox))
        catalog = connector.catalog()
        streams = {entry["stream"]["name"]: entry["stream"] for entry in catalog["streams"]}
        done = connector.run("read", catalog=catalog)
        rows = sandbox.cluster.rows("shop", "types")
        sandbox.cluster.insert(
            "shop", "types", [{**row, "id": b"1" + (row["id"] or b"")} for row in rows]
        )
        again = connector.run("read", catalog=catalog, state=done.state)
    assert streams["pairs"]["source_defined_primary_key"] == [["b"], ["a"]]
    copied, streamed = done.of("RECORD"), again.of("RECORD")
    assert len(copied) == 18
    assert len(streamed) == 6
    for record in copied + streamed:
        schema = streams[record["stream"]]["json_schema"]
        jsonschema.validate(
            record["data"], schema, format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER
        )
        assert record["data"].keys() == schema["properties"].keys()
    moments = [
        name
        for name, prop in streams["types"]["json_schema"]["properties"].items()
        if prop.get("airbyte_type") == "timestamp_with_timezone"
    ]
    assert moments == ["moment", "stamp", "_ab_cdc_updated_at", "_ab_cdc_deleted_at"]
    [full] = [r["data"] for r in streamed if r["data"]["id"] == 10]
    assert (full["price"], full["big"], full["span"]) == (0.5, 2**64 - 1, "-838:59:59")


def test_a_table_without_a_key_has_full_refresh_only(connector: Connector) -> None:
    made = Table("log", (Column("line", "text"),))
    with serve(Cluster()) as sandbox:
        sandbox.cluster.create_keyspace("shop", ["0"])
        sandbox.cluster.create_table("shop", made)
        connector.config = settings(sandbox)
        catalog = connector.catalog()
        assert catalog["streams"][0]["stream"]["supported_sync_modes"] == ["full_refresh"]
        catalog["streams"][0]["sync_mode"] = "incremental"
        error = the_error(connector.run("read", catalog=catalog))
    assert error["failure_type"] == "config_error"
    assert "shop.log has no primary key" in error["message"]


# Syncs


def test_the_second_sync_is_incremental(sandbox: Sandbox, connector: Connector) -> None:
    """Deletes, new keys and updates arrive; nothing else does."""
    destination, catalog = Destination(), connector.catalog()
    first = connector.run("read", catalog=catalog)
    destination.take(first)
    check_equal(sandbox, destination)
    assert first.code == 0
    assert first.statuses() == {name: ["STARTED", "RUNNING", "COMPLETE"] for name in TABLES}
    estimates = {e["name"]: e["row_estimate"] for e in first.traces("ESTIMATE")}
    assert estimates.keys() == set(TABLES)
    assert all(25 < rows < 100 for rows in estimates.values())
    assert sum(state["sourceStats"]["recordCount"] for state in first.of("STATE")) == 100
    write(sandbox.cluster)
    second = connector.run("read", catalog=catalog, state=first.state)
    destination.take(second)
    check_equal(sandbox, destination)
    records = [r["data"] for r in second.of("RECORD")]
    assert len(records) == 14
    deleted = {r["id"] for r in records if r["_ab_cdc_deleted_at"]}
    assert deleted == {2, 3}
    assert all(r["text"] for r in records), "a delete has the whole image"
    assert second.statuses()["tag"] == ["STARTED", "COMPLETE"]
    assert second.traces("ESTIMATE") == []
    everything_read = [r["data"] for r in first.of("RECORD") + second.of("RECORD")]
    cursors = [data["_ab_cdc_cursor"] for data in everything_read]
    assert cursors == sorted(set(cursors))
    assert all(data["_ab_cdc_updated_at"] for data in everything_read)
    third = connector.run("read", catalog=catalog, state=second.state)
    assert (third.code, third.of("RECORD")) == (0, [])


def test_states_frame_the_records(connector: Connector) -> None:
    """One stands before the first record and one behind the last, before the statuses."""
    done = connector.run("read", catalog=connector.catalog())
    kinds = [m["type"] for m in done.messages if m["type"] in {"RECORD", "STATE"}]
    assert (kinds[0], kinds[-1]) == ("STATE", "STATE")
    types = [m["type"] for m in done.messages]
    complete = [i for i, m in enumerate(done.messages) if "COMPLETE" in json.dumps(m)]
    assert max(i for i, kind in enumerate(types) if kind == "STATE") < min(complete)


def test_a_stream_that_was_cleared_is_copied_again(sandbox: Sandbox, connector: Connector) -> None:
    """Airbyte takes it out of stream_states and leaves shared_state as it was."""
    catalog = connector.catalog()
    first = connector.run("read", catalog=catalog)
    [state] = first.state
    listed = state["global"]["stream_states"]
    assert sorted(entry["stream_descriptor"]["name"] for entry in listed) == list(TABLES)
    listed[:] = [entry for entry in listed if entry["stream_descriptor"]["name"] != "tag"]
    sandbox.cluster.delete("shop", "item", {"id": b"4"})
    second = connector.run("read", catalog=catalog, state=[state])
    assert sorted(second.ids("tag")) == list(range(50))
    assert second.ids("item") == [4]


def test_a_deselected_stream_keeps_its_place(sandbox: Sandbox, connector: Connector) -> None:
    first = connector.run("read", catalog=connector.catalog())
    sandbox.cluster.delete("shop", "tag", {"id": b"4"})
    second = connector.run("read", catalog=connector.catalog("item"), state=first.state)
    assert second.of("RECORD") == []
    third = connector.run("read", catalog=connector.catalog(), state=second.state)
    assert third.ids("tag") == [4]


def test_a_full_refresh_copies_each_time(sandbox: Sandbox, connector: Connector) -> None:
    catalog = connector.catalog("item", full_refresh=True)
    first = connector.run("read", catalog=catalog)
    sandbox.cluster.delete("shop", "item", {"id": b"4"})
    second = connector.run("read", catalog=catalog, state=first.state)
    assert sorted(first.ids("item")) == list(range(50))
    assert sorted(second.ids("item")) == sorted(set(range(50)) - {4})
    assert [d.statuses()["item"][-1] for d in (first, second)] == ["COMPLETE"] * 2


def test_a_full_refresh_that_is_cut_is_for_airbyte_to_repeat(
    sandbox: Sandbox, connector: Connector
) -> None:
    """In the same sync, its rows would come twice and stay."""
    sandbox.faults.append(Fault(cut_in_copy=10, times=1))
    done = connector.run("read", catalog=connector.catalog("item", full_refresh=True))
    error = the_error(done)
    assert error["failure_type"] == "transient_error"
    assert done.statuses()["item"] == ["STARTED", "RUNNING", "INCOMPLETE"]
    assert len(done.ids("item")) == len(set(done.ids("item")))


def test_a_copy_that_is_cut_goes_on(tmp_path: Path) -> None:
    """Killed in mid-copy, with writes behind its back: the next sync makes it good."""
    with serve(shop(3000)) as sandbox:
        connector = Connector(tmp_path, settings(sandbox))
        catalog = connector.catalog()
        destination = Destination()
        sandbox.faults.append(Fault(stall_after_events=2200, times=None))
        with subprocess.Popen(
            connector.command("read", catalog=catalog), stdout=subprocess.PIPE, text=True
        ) as running:
            assert running.stdout is not None
            lines = []
            for line in running.stdout:
                lines.append(line)
                if len([x for x in lines if '"RECORD"' in x]) > 300 and '"STATE"' in line:
                    break
            running.kill()
        cut = Done(running.returncode, messages("".join(lines)), "")
        destination.take(cut)
        sandbox.faults.clear()
        write(sandbox.cluster)
        done = connector.run("read", catalog=catalog, state=cut.state)
        destination.take(done)
        check_equal(sandbox, destination)
        assert done.code == 0
        assert 0 < len(done.ids("item")) < 2500


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_sync_at_a_boundary(tmp_path: Path, number: signal.Signals) -> None:
    """The last STATE is out, the streams are INCOMPLETE, and the exit code tells the signal."""
    with serve(shop(2000)) as sandbox:
        connector = Connector(tmp_path, settings(sandbox))
        catalog = connector.catalog()
        sandbox.faults.append(Fault(stall_after_events=400, times=None))
        output = tmp_path / "out"
        with output.open("wb") as stdout:
            running = subprocess.Popen(connector.command("read", catalog=catalog), stdout=stdout)
            end = time.monotonic() + SECONDS
            while b'"RECORD"' not in output.read_bytes():
                assert time.monotonic() < end
                time.sleep(0.02)
            running.send_signal(number)
            assert running.wait(SECONDS) == 128 + number
        done = Done(running.returncode, messages(output.read_text()), "")
        assert {status[-1] for status in done.statuses().values()} == {"INCOMPLETE"}
        [error] = done.traces("ERROR")
        assert error["failure_type"] == "transient_error"
        sandbox.faults.clear()
        again = connector.run("read", catalog=catalog, state=done.state)
        assert set(done.ids("item") + again.ids("item")) == set(range(2000))


def test_max_run_seconds(tmp_path: Path) -> None:
    """With unfinished copies it is no success: a destination would take what is there for all."""
    with serve(shop(2000)) as sandbox:
        connector = Connector(tmp_path, settings(sandbox, max_run_seconds=1))
        catalog = connector.catalog()
        sandbox.faults.append(Fault(stall_after_events=400, times=None))
        done = connector.run("read", catalog=catalog)
    error = the_error(done)
    assert error["failure_type"] == "transient_error"
    assert "max_run_seconds (1)" in error["message"]
    assert {status[-1] for status in done.statuses().values()} == {"INCOMPLETE"}


# Errors


def purge(cluster: Cluster) -> None:
    write(cluster)
    for shard in cluster.shards("shop"):
        cluster.purge_binlogs("shop", shard)
    insert(cluster, "item", range(9300, 9310))


def test_a_lost_position(sandbox: Sandbox, connector: Connector) -> None:
    """Told for what it is; with the setting resync it is made good, and what stays is told."""
    catalog = connector.catalog()
    first = connector.run("read", catalog=catalog)
    purge(sandbox.cluster)
    lost = connector.run("read", catalog=catalog, state=first.state)
    error = the_error(lost)
    assert error["failure_type"] == "config_error"
    assert "have been purged" in error["message"]
    assert {status[-1] for status in lost.statuses().values()} == {"INCOMPLETE"}
    connector.config["on_lost_position"] = "resync"
    again = connector.run("read", catalog=catalog, state=lost.state)
    assert again.code == 0
    assert set(again.ids("item")) == set(expected_ids(sandbox, "item"))
    told = [log["message"] for log in again.of("LOG") if log["level"] == "WARN"]
    assert [t for t in told if t.startswith("shop.item is copied again: rows that have vanished")]


def expected_ids(sandbox: Sandbox, name: str) -> list[int]:
    return [row["id"] for row in expected(sandbox.cluster, "shop", name)]


def test_an_altered_table_does_not_stop_the_others(sandbox: Sandbox, connector: Connector) -> None:
    """The error names the stream and what to do; after a refresh of the schema it goes on."""
    cluster = sandbox.cluster
    cluster.create_table("shop", table("number", "int"))
    catalog = connector.catalog("number", "tag")
    first = connector.run("read", catalog=catalog)
    cluster.ddl("shop", "alter table number modify text varchar(9)", table("number", "varchar(9)"))
    cluster.insert("shop", "number", [{"id": b"90", "text": b"nine"}])
    insert(cluster, "tag", range(80, 84))
    done = connector.run("read", catalog=catalog, state=first.state)
    error = the_error(done)
    assert error["stream_descriptor"] == {"name": "number", "namespace": "shop"}
    assert error["failure_type"] == "config_error"
    assert "refresh the source schema" in error["message"]
    assert done.statuses()["tag"][-1] == "COMPLETE"
    assert done.statuses()["number"][-1] == "INCOMPLETE"
    assert sorted(done.ids("tag")) == [80, 81, 82, 83]
    again = connector.run("read", catalog=connector.catalog("number", "tag"), state=done.state)
    assert again.code == 0
    assert [r["data"]["text"] for r in again.of("RECORD")] == ["nine"]


def test_a_new_column_waits_for_the_catalog(sandbox: Sandbox, connector: Connector) -> None:
    catalog = connector.catalog()
    first = connector.run("read", catalog=catalog)
    old = table("tag")
    new = Table("tag", (*old.columns, Column("more", "int")), primary_key=("id",))
    sandbox.cluster.ddl("shop", "alter table tag add more int", new)
    sandbox.cluster.insert("shop", "tag", [{"id": b"70", "text": b"x", "more": b"1"}])
    done = connector.run("read", catalog=catalog, state=first.state)
    [record] = done.of("RECORD")
    assert done.code == 0
    assert "more" not in record["data"]
    sandbox.cluster.insert("shop", "tag", [{"id": b"71", "text": b"x", "more": b"1"}])
    again = connector.run("read", catalog=connector.catalog(), state=done.state)
    assert [r["data"]["more"] for r in again.of("RECORD")] == [1]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("unavailable", "transient_error"),
        ("error_unknown_table", "config_error"),
        ("unauthenticated", "config_error"),
    ],
)
def test_faults_of_the_stream(
    sandbox: Sandbox, connector: Connector, fault: str, kind: str
) -> None:
    """What does not pass is told by whose turn it is."""
    catalog = connector.catalog("item")
    sandbox.faults.append(Fault(error=fault, times=None))
    connector.impatient = True
    done = connector.run("read", catalog=catalog)
    assert the_error(done)["failure_type"] == kind
    assert done.statuses()["item"] == ["STARTED", "INCOMPLETE"]


def test_a_fault_in_mid_copy(sandbox: Sandbox, connector: Connector) -> None:
    """The rows that came are covered by a last STATE, and the next sync makes it good."""
    catalog, destination = connector.catalog("item"), Destination()
    connector.config["checkpoint_seconds"] = 1000
    sandbox.faults.append(Fault(cut_in_copy=10, times=None))
    connector.impatient = True
    done = connector.run("read", catalog=catalog)
    error = the_error(done)
    assert error["failure_type"] == "transient_error"
    assert done.of("RECORD")
    sandbox.faults.clear()
    destination.take(done)
    destination.take(connector.run("read", catalog=catalog, state=done.state))
    check_equal(sandbox, destination, "item")


def test_a_fault_while_changes_are_streamed(sandbox: Sandbox, connector: Connector) -> None:
    """No stream is COMPLETE then, though all tables have been copied."""
    catalog = connector.catalog("item")
    first = connector.run("read", catalog=catalog)
    write(sandbox.cluster)
    sandbox.faults.append(Fault(error="unavailable", times=None))
    connector.impatient = True
    done = connector.run("read", catalog=catalog, state=first.state)
    assert the_error(done)["failure_type"] == "transient_error"
    assert done.statuses()["item"] == ["STARTED", "INCOMPLETE"]


def without_text(catalog: dict[str, Any], stream: str) -> dict[str, Any]:
    """Deselect a column as Airbyte does: the configured catalog has it no more."""
    for entry in catalog["streams"]:
        if entry["stream"]["name"] == stream:
            del entry["stream"]["json_schema"]["properties"]["text"]
    return catalog


def asked_for(sandbox: Sandbox) -> set[str]:
    """Return the SELECTs of the requests so far, and forget them."""
    found = {rule.filter for request in sandbox.requests for rule in request.filter.rules}
    sandbox.requests.clear()
    return found


@pytest.mark.parametrize("full_refresh", [False, True])
def test_deselected_columns_are_not_asked_for(
    sandbox: Sandbox, connector: Connector, *, full_refresh: bool
) -> None:
    """Neither by copies nor by streams; of the other stream all are."""
    catalog = without_text(connector.catalog(full_refresh=full_refresh), "item")
    first = connector.run("read", catalog=catalog)
    sandbox.cluster.delete("shop", "item", {"id": b"4"})
    insert(sandbox.cluster, "tag", range(70, 71))
    second = connector.run("read", catalog=catalog, state=first.state)
    assert (first.code, second.code) == (0, 0), first.errors + second.errors
    assert asked_for(sandbox) == {"select `id` from `item`", "select * from `tag`"}
    assert sorted(first.ids("item")) == list(range(50))
    expected_ids = sorted({*range(50)} - {4}) if full_refresh else [4]
    assert sorted(second.ids("item")) == expected_ids
    for done in (first, second):
        records = done.of("RECORD")
        assert {"text" in r["data"] for r in records if r["stream"] == "item"} == {False}
        assert {"text" in r["data"] for r in records if r["stream"] == "tag"} == {True}


def test_a_column_that_is_deselected_later_and_selected_again(
    sandbox: Sandbox, connector: Connector
) -> None:
    """It is no new copy: the column is there, or not, from the next sync on."""
    done = connector.run("read", catalog=connector.catalog("item"))
    for number, selected in ((60, False), (61, True), (62, True)):
        asked_for(sandbox)
        insert(sandbox.cluster, "item", range(number, number + 1))
        catalog = connector.catalog("item")
        if not selected:
            without_text(catalog, "item")
        done = connector.run("read", catalog=catalog, state=done.state)
        assert done.code == 0, done.errors
        assert done.ids("item") == [number]
        assert {"text" in record["data"] for record in done.of("RECORD")} == {selected}
        columns = "*" if selected else "`id`"
        assert asked_for(sandbox) == {f"select {columns} from `item`"}


def test_a_column_that_is_new_comes_with_a_new_catalog(
    sandbox: Sandbox, connector: Connector
) -> None:
    """Until then it is not asked for, and then nothing is copied again."""
    catalog = connector.catalog("item")
    done = connector.run("read", catalog=catalog)
    columns = (*table("item").columns, Column("n", "int"))
    changed = Table("item", columns, primary_key=("id",))
    sandbox.cluster.ddl("shop", "alter table item add n int", changed)
    for number, told in ((60, False), (61, True)):
        row = {"id": b"%d" % number, "text": b"t", "n": b"7"}
        sandbox.cluster.insert("shop", "item", [row])
        done = connector.run("read", catalog=catalog, state=done.state)
        assert done.code == 0, done.errors
        assert [r["data"].get("n") for r in done.of("RECORD")] == ([7] if told else [None])
        assert done.ids("item") == [number]
        catalog = connector.catalog("item")
    assert asked_for(sandbox) == {"select * from `item`", "select `id`, `text` from `item`"}


def drop_key(catalog: dict[str, Any]) -> None:
    del catalog["streams"][0]["stream"]["json_schema"]["properties"]["id"]


def drop_marker(catalog: dict[str, Any]) -> None:
    del catalog["streams"][0]["stream"]["json_schema"]["properties"]["_ab_cdc_deleted_at"]


def drop_streams(catalog: dict[str, Any]) -> None:
    catalog["streams"] = 3


def drop_namespace(catalog: dict[str, Any]) -> None:
    del catalog["streams"][0]["stream"]["namespace"]


def double(catalog: dict[str, Any]) -> None:
    catalog["streams"] *= 2


@pytest.mark.parametrize("spoil", [drop_key, drop_marker, drop_streams, drop_namespace, double])
def test_catalogs_that_would_lose_something(
    connector: Connector, spoil: Callable[[dict[str, Any]], None]
) -> None:
    catalog = connector.catalog("item")
    spoil(catalog)
    done = connector.run("read", catalog=catalog)
    assert the_error(done)["failure_type"] == "config_error"
    assert done.of("STATE") == []


def test_a_fault_of_our_own() -> None:
    """It is told with the stack and without its text, which may quote values."""
    program = (
        "from tap_vitess.airbyte.commands import run; run(['spec']);"
        "raise RuntimeError('value-nobody-' + 'may-log')"  # 3.13's stacks quote the program
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    error = the_error(Done(done.returncode, messages(done.stdout), done.stderr))
    assert error["failure_type"] == "system_error"
    assert "RuntimeError" in error["message"]


def test_a_platform_that_goes_away(connector: Connector) -> None:
    """It is no success, and no traceback."""
    with subprocess.Popen(
        connector.command("read", catalog=connector.catalog()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        told = running.stderr.read().decode()
        assert running.wait(SECONDS) == 1
    assert "Traceback" not in told


def test_every_error_has_a_kind() -> None:
    """Each branch of the tree of errors is in the table."""
    assert FAILURE_TYPES.keys() == set(VitessError.__subclasses__())
    assert failure_type(errors.ShardsGoneError("x")) == "config_error"
    assert failure_type(errors.StalledError("x")) == "transient_error"
    assert failure_type(errors.ReshardedError("x")) == "transient_error"


def test_the_sdk_is_not_imported(connector: Connector) -> None:
    """Neither Singer's nor Airbyte's, by a whole sync."""
    command = connector.command("read", catalog=connector.catalog())
    program = (
        "import sys; from tap_vitess.airbyte.commands import run; code = run(sys.argv[1:]);"
        "wrong = {m.split('.')[0] for m in sys.modules} & {'singer_sdk', 'airbyte_protocol',"
        " 'airbyte_cdk', 'pydantic', 'sqlalchemy', 'click'};"
        "sys.stderr.write(str(sorted(wrong))); sys.exit(code)"
    )
    arguments = command[command.index("read") :]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0
    assert '"RECORD"' in done.stdout
    assert done.stderr == "[]"


# States

EMPTY: list[Any] = [
    [],
    {},
    [{"type": "LEGACY", "data": {}}],
    [{"type": "STREAM", "stream": {"stream_descriptor": {"name": "x"}, "stream_state": {}}}],
    [{"type": "STREAM", "stream": {"stream_descriptor": {"name": "x"}}}],
    [{"type": "GLOBAL", "global": {"shared_state": {}, "stream_states": []}}],
]


@pytest.mark.parametrize("document", EMPTY)
def test_states_that_say_nothing(document: object) -> None:
    assert states_of(document) == {}


BROKEN: list[Any] = [
    "text",
    ["text"],
    {"bookmarks": {"vitess:shop": {}}},
    [{"type": "LEGACY", "data": {"shop": "x"}}],
    [{"type": "STREAM", "stream": {"stream_descriptor": {"name": "x"}, "stream_state": {"a": 1}}}],
    [{"type": "GLOBAL", "global": {"shared_state": {"mysql": {"a": 1}}, "stream_states": []}}],
    [{"type": "GLOBAL", "global": {"shared_state": {"vitess:shop": {"format": 9}}}}],
    [{"type": "GLOBAL", "global": {"shared_state": {"vitess:shop": {}}, "stream_states": [{}]}}],
]


@pytest.mark.parametrize("document", BROKEN)
def test_states_that_are_not_ours(document: object) -> None:
    """They are not taken for those of a first sync."""
    with pytest.raises(StateError):
        states_of(document)


def test_a_state_of_a_stream_says_what_to_do() -> None:
    with pytest.raises(StateError, match=r"of the type STREAM.*clear the connection's data"):
        states_of(BROKEN[4])


def test_the_console_script() -> None:
    """It is installed, and says what it takes."""
    program = Path(sys.executable).with_name("source-vitess")
    done = subprocess.run(
        [str(program), "spec"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
        env=os.environ,
    )
    assert messages(done.stdout)[0]["type"] == "SPEC"
