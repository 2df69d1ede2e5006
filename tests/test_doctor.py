"""The doctor: each judgement by itself, and whole examinations of a sandbox."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.findings import brief, look, the
from support.shops import served, shop
from support.taps import Target, discover, run, settings, without_shard

from tap_vitess.config import Config
from tap_vitess.doctor import judge_cluster, judge_state, judge_tables
from tap_vitess.doctor.__main__ import main
from tap_vitess.doctor.examine import examine, failed
from tap_vitess.doctor.findings import Finding, Place, Severity, duration, exit_code
from tap_vitess.doctor.report import as_json, as_text
from tap_vitess.errors import AuthError, ConfigError, RequestError, RetriableError
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.state import Group, KeyspaceState
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.sample import sample_cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.settings import read_config
from tap_vitess.survey.facts import Column as FoundColumn
from tap_vitess.survey.facts import ShardFacts, Tablet, Text, Throttling
from tap_vitess.survey.facts import Table as FoundTable

A = "6f1b1f0c-5a7e-4f0e-9a55-7a1f2d3c4b5a"
B = "7f1b1f0c-5a7e-4f0e-9a55-7a1f2d3c4b5a"
OK, INFO, WARNING, ERROR = Severity
SECRET = "correct-horse"


# Judgement


def config(**more: Any) -> Config:
    return Config.from_settings({"host": "vtgate.example.com", **more})


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, set()),
        ({"user": "u", "password": "p"}, {("WARNING", "tls", "VTGate")}),
        ({"grpc_headers": {"a": "b"}}, {("WARNING", "tls", "VTGate")}),
        ({"user": "u", "password": "p", "tls": True}, set()),
        ({"user": "u", "password": "p", "host": "127.0.0.1"}, set()),
    ],
)
def test_credentials_in_the_clear(more: dict[str, Any], found: set[Any]) -> None:
    assert brief(judge_cluster.transport(config(**more))) == found


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (None, ["does not report"]),
        ((18, 0, 0), ["older than v19", "reshard", "hour", "EOF"]),
        ((19, 0, 4), ["reshard", "hour", "EOF"]),
        ((20, 0, 6), ["hour", "EOF"]),
        ((20, 0, 7), ["hour"]),
        ((21, 0, 3), ["hour", "EOF"]),
        ((21, 0, 4), ["hour"]),
        ((22, 0, 0), []),
        ((24, 0, 0), []),
        ((25, 0, 0), ["newer"]),
    ],
)
def test_versions(version: Any, words: list[str]) -> None:
    found = [f.what for f in judge_cluster.version(version) if f.severity is not OK]
    assert len(found) == len(words)
    assert all(word in what for word, what in zip(words, found, strict=True)), found


def tablet(shard: str, kind: str = "PRIMARY", state: str = "SERVING", cell: str = "a") -> Tablet:
    return Tablet(cell, "ks", shard, kind, state, f"{cell}-{shard}", "host")


@pytest.mark.parametrize(
    ("more", "tablets", "found"),
    [
        ({}, [tablet("-80"), tablet("80-")], set()),
        ({}, [tablet("-80"), tablet("80-", state="NOT_SERVING")], {"ks/80-"}),
        ({}, [tablet("-80"), tablet("80-", "REPLICA")], {"ks/80-"}),
        ({}, [], {"ks/-80", "ks/80-"}),
        ({"cells": ["b"]}, [tablet("-80"), tablet("80-")], set()),
        (
            {"cells": ["b"], "tablet_type": "REPLICA"},
            [tablet("-80", "REPLICA", cell="b"), tablet("80-", "REPLICA", cell="a")],
            {"ks/80-"},
        ),
        (
            {"tablet_type": "RDONLY"},
            [tablet("-80", "RDONLY", cell="b"), tablet("80-", "RDONLY")],
            set(),
        ),
    ],
)
def test_tablets(more: dict[str, Any], tablets: list[Tablet], found: set[str]) -> None:
    """PRIMARY is looked for in every cell."""
    judged = brief(judge_cluster.tablets("ks", ["-80", "80-"], tablets, config(**more)))
    assert judged == {("ERROR", "tablets", place) for place in found}


FACTS = ShardFacts(
    shard="0",
    executed=GtidSet.parse(f"{A}:1-100"),
    purged=GtidSet.parse(""),
    row_image="FULL",
    row_value_options="",
    binlog_format="ROW",
    binlog_expire_seconds=259_200,
    mysql_version="8.0.40",
    clock=1e9,
)


@pytest.mark.parametrize(
    ("more", "version", "skew", "found"),
    [
        ({}, (22, 0, 3), 9.0, set()),
        ({"binlog_format": "MIXED"}, (22, 0, 3), 0.0, {("ERROR", "binlog")}),
        ({"row_image": "MINIMAL"}, (22, 0, 3), 0.0, {("ERROR", "row_image")}),
        ({"row_image": "NOBLOB"}, (22, 0, 3), 0.0, {("INFO", "row_image")}),
        (
            {"row_value_options": "PARTIAL_JSON"},
            (21, 0, 9),
            0.0,
            {("ERROR", "row_value_options")},
        ),
        ({"row_value_options": "PARTIAL_JSON"}, None, 0.0, {("ERROR", "row_value_options")}),
        (
            {"row_value_options": "PARTIAL_JSON"},
            (22, 0, 0),
            0.0,
            {("INFO", "row_value_options")},
        ),
        ({"binlog_expire_seconds": 3600}, (22, 0, 3), 0.0, {("WARNING", "retention")}),
        ({"binlog_expire_seconds": 0}, (22, 0, 3), 0.0, set()),
        ({}, (22, 0, 3), -11.0, {("WARNING", "clock")}),
        ({}, (22, 0, 3), 11.0, {("WARNING", "clock")}),
    ],
)
def test_shards(more: dict[str, Any], version: Any, skew: float, found: set[Any]) -> None:
    facts = dataclasses.replace(FACTS, **more)
    judged = brief(judge_cluster.shard("ks", facts, version, skew, config()))
    assert judged == {(*pair, "ks/0") for pair in found}


@pytest.mark.parametrize(
    ("policy", "severity"), [("fetch", INFO), ("omit", WARNING), ("fail", ERROR)]
)
@pytest.mark.parametrize("more", [{"row_image": "NOBLOB"}, {"row_value_options": "PARTIAL_JSON"}])
def test_partial_images_by_policy(policy: str, severity: Severity, more: dict[str, str]) -> None:
    facts = dataclasses.replace(FACTS, **more)  # type: ignore[arg-type]
    judged = judge_cluster.shard("ks", facts, (22, 0, 3), 0.0, config(on_partial_image=policy))
    assert [f.severity for f in judged if f.severity is not OK] == [severity]


@pytest.mark.parametrize(
    ("enabled", "apps", "found"),
    [
        (False, {"vstreamer": 1.0}, set()),
        (True, {"always-throttled-app": 1.0}, {"INFO"}),
        (True, {"vstreamer": 0.0}, {"INFO"}),
        (True, {"vstreamer": 0.5}, {"WARNING"}),
        (True, {"rowstreamer": 1.0}, {"WARNING"}),
        (True, {"all": 1.0}, {"WARNING"}),
    ],
)
def test_the_throttler(*, enabled: bool, apps: dict[str, float], found: set[str]) -> None:
    judged = brief(judge_cluster.throttling("ks", Throttling("0", enabled, apps)))
    assert judged == {(severity, "throttler", "ks/0") for severity in found}


@pytest.mark.parametrize(
    ("text", "version", "found"),
    [
        (Text("t", "c", "varchar(9)", "utf8mb4", "utf8mb4_0900_ai_ci"), (19, 0, 0), set()),
        (Text("t", "c", "varchar(9)", "ascii", "ascii_general_ci"), (19, 0, 0), set()),
        (Text("t", "c", "varchar(9)", "latin1", "latin1_swedish_ci"), (22, 0, 3), {"INFO charset"}),
        (Text("t", "c", "varchar(9)", "latin1", "latin1_swedish_ci"), None, {"INFO charset"}),
        (Text("t", "c", "varchar(9)", "latin1", "latin1_swedish_ci"), (19, 0, 9), {"INFO charset"}),
        (Text("t", "c", "varchar(9)", "utf8mb4", "utf8mb4_bin"), (20, 0, 0), {"INFO charset"}),
        (Text("t", "c", "varchar(9)", "utf8mb4", "utf8mb4_bin"), (19, 0, 9), {"INFO charset"}),
        (Text("t", "c", "enum('a')", "utf8mb4", "utf8mb4_bin"), (19, 0, 9), {"INFO charset"}),
        (Text("t", "c", "enum('a')", "utf8mb4", "utf8mb4_0900_ai_ci"), (19, 0, 9), set()),
        (Text("t", "c", "text", "armscii8", "armscii8_bin"), (22, 0, 3), {"INFO charset"}),
    ],
)
def test_texts(text: Text, version: Any, found: set[str]) -> None:
    table = FoundTable("ks", "t", (), ("id",))
    judged = brief(judge_tables.columns("ks", [table], [text], version))
    assert {f"{severity} {check}" for severity, check, _ in judged} == found


@pytest.mark.parametrize(
    ("version", "warned"),
    [
        ((21, 0, 9), True),
        ((22, 0, 2), True),
        ((22, 0, 3), False),
        ((23, 0, 0), True),
        ((23, 0, 1), False),
        ((24, 0, 0), False),
        (None, False),
    ],
)
def test_json(version: Any, *, warned: bool) -> None:
    """Only tables with JSON columns are named."""
    tables = [
        FoundTable("ks", name, (FoundColumn("c", kind, nullable=True, charset=None),), ("id",))
        for name, kind in (("j", "json"), ("n", "int"))
    ]
    judged = brief(judge_tables.columns("ks", tables, [], version))
    assert judged == ({("WARNING", "json", "ks.j")} if warned else set())


STATE = KeyspaceState("ks", (Group(Vgtid("ks", {"0": GtidSet.parse(f"{A}:1-60")}), {"t": 1}),))


@pytest.mark.parametrize(
    ("executed", "purged", "severity", "words"),
    [
        (f"{A}:1-100", "", OK, "lags by 40 transactions; binlogs hold 60 before"),
        (f"{A}:1-60", f"{A}:1-60", OK, "lags by 0 transactions"),
        (f"{A}:1-100,{B}:1-5", f"{A}:1-20", OK, "lags by 45 transactions; binlogs hold 40"),
        (f"{A}:1-100", f"{A}:1-60", WARNING, "close to being purged"),  # copied long ago
        (f"{A}:1-100", f"{A}:1-61", ERROR, "is lost: .*1 transactions after"),
        (f"{A}:1-59", "", ERROR, "is lost: .*failover"),
        (f"{B}:1-100", "", ERROR, "is lost: .*another cluster"),
    ],
)
def test_positions(executed: str, purged: str, severity: Severity, words: str) -> None:
    """purged ⊆ S ⊆ executed, and how far S is from both; the policy makes an error a warning."""
    facts = dataclasses.replace(
        FACTS, executed=GtidSet.parse(executed), purged=GtidSet.parse(purged)
    )
    for policy, expected in (("fail", severity), ("resync", min(severity, WARNING))):
        settings_ = config(on_lost_position=policy)
        (found,) = judge_state.bookmark(STATE, ["0"], [], {"0": facts}, settings_)
        assert found.severity is expected
        assert re.search(words, found.what), found.what


@pytest.mark.parametrize(
    ("listed", "severity"), [([tablet("0", state="NOT_SERVING")], WARNING), ([], ERROR)]
)
def test_shards_that_are_gone(listed: list[Tablet], severity: Severity) -> None:
    (found,) = judge_state.bookmark(STATE, ["-80", "80-"], listed, {}, config())
    assert (found.severity, found.place) == (severity, Place("ks", "0"))


def test_followed_tables() -> None:
    """A table that was dropped, and one that is new."""
    assert brief(judge_state.followed(STATE, ["t"], ["t"])) == set()
    assert brief(judge_state.followed(STATE, ["u"], ["u"])) == {
        ("WARNING", "state", "ks.t"),
        ("INFO", "state", "ks"),
    }
    assert brief(judge_state.followed(STATE, [], ["t"])) == {("ERROR", "state", "ks.t")}


# The report


FINDINGS = [
    Finding(ERROR, "binlog", Place("ks", "-80"), "what " * 30, "do it " * 30),
    Finding(OK, "grpc", Place(), "answers"),
    Finding(WARNING, "key", Place("ks", table="a_table_with_a_very_long_name_indeed"), "no key"),
]


def test_text_fits_and_ends_with_the_worst() -> None:
    lines = as_text(FINDINGS, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line[:1].isalpha()] == ["ok", "warning", "error"]
    assert lines[-1] == "1 error, 1 warning, 0 notes, 1 check passed"
    assert " ".join(" ".join(lines).split()).count("do it") == 30


def test_json_has_everything() -> None:
    document = json.loads(as_json(FINDINGS))
    assert document["exit_code"] == 1
    assert document["counts"] == {"ok": 1, "info": 0, "warning": 1, "error": 1}
    assert [f["severity"] for f in document["findings"]] == ["error", "ok", "warning"]
    assert document["findings"][0]["shard"] == "-80"


@pytest.mark.parametrize(
    ("severities", "code"), [([], 0), ([OK, INFO], 0), ([OK, WARNING], 3), ([WARNING, ERROR], 1)]
)
def test_exit_codes(severities: list[Severity], code: int) -> None:
    assert exit_code(Finding(s, "c", Place(), "w") for s in severities) == code


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(59, "59 seconds"), (90, "1.5 minutes"), (86_400, "1 day"), (216_000, "2.5 days")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# Settings, as the tap reads them


def test_settings_of_files_and_environment(tmp_path: Path) -> None:
    """What comes later wins; each type is read from its text."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"host": "a", "grpc_port": 1}))
    environment = {
        "TAP_VITESS_HOST": "b",
        "TAP_VITESS_TLS": "true",
        "TAP_VITESS_MYSQL_PORT": "7",
        "TAP_VITESS_CHECKPOINT_SECONDS": "1.5",
        "TAP_VITESS_KEYSPACES": "x,y",
        "TAP_VITESS_TABLES": '["x.*"]',
        "TAP_VITESS_GRPC_HEADERS": '{"a": "b"}',
    }
    found = read_config([str(path), "ENV"], environment)
    assert (found.host, found.grpc_port, found.mysql_port) == ("b", 1, 7)
    assert found.tls is not None
    assert (found.checkpoint_seconds, found.keyspaces, found.tables) == (1.5, ("x", "y"), ("x.*",))
    assert found.grpc_headers == {"a": "b"}
    assert read_config(["ENV", str(path)], environment).host == "a"


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({}, "'host' is a required"),
        ({"host": "h", "grpc_port": "x"}, "setting grpc_port"),
        ({"host": "h", "user": "u", "password": [SECRET]}, "setting password: string of text"),
        ({"host": "h", "grpc_headers": {"a": [SECRET]}}, "setting grpc_headers: object of text"),
        ([], "an object of settings"),
    ],
)
def test_wrong_settings(settings_: Any, words: str, tmp_path: Path) -> None:
    """One sentence that names the setting; secrets are not quoted."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings_))
    with pytest.raises(ConfigError, match=words) as caught:
        read_config([str(path)], {})
    assert SECRET not in str(caught.value)


def test_a_wrong_variable_is_not_quoted() -> None:
    with pytest.raises(ConfigError, match="setting grpc_headers: the environment") as caught:
        read_config(["ENV"], {"TAP_VITESS_GRPC_HEADERS": "{" + SECRET})
    assert SECRET not in str(caught.value)


# Whole examinations


def two_tables() -> Cluster:
    """Make a keyspace of two shards that is as it should be."""
    columns = (Column("id", "int", nullable=False), Column("v", "varchar(20)"))
    cluster = shop(*(Table(name, columns, primary_key=("id",)) for name in ("item", "other")))
    cluster.insert("shop", "item", [{"id": b"%d" % i, "v": b"x"} for i in range(20)])
    return cluster


pytestmark = served(two_tables)


def test_a_healthy_cluster(sandbox: Sandbox) -> None:
    """Nothing to say, and everything was looked at."""
    target = Target()
    run(settings(sandbox), target)
    findings = look(sandbox, target.state)
    assert brief(findings) == set()
    checks = {"grpc", "mysql", "version", "tablets", "stream", "shard", "tables", "position"}
    assert {finding.check for finding in findings} == checks
    assert sum(finding.check == "shard" for finding in findings) == 2


def test_the_sample_is_examined() -> None:
    """A table without a key is all there is to say of the sample."""
    with serve(sample_cluster(rows=1)) as served:
        assert brief(look(served)) == {("WARNING", "key", "shop.page_views")}


def test_every_shard_is_looked_at_by_itself(sandbox: Sandbox) -> None:
    shard = sandbox.cluster.shard("shop", "80-")
    shard.variables["binlog_row_image"] = "MINIMAL"
    shard.variables["binlog_expire_logs_seconds"] = "60"
    shard.throttler = True
    shard.throttled = {"vstreamer": 1.0}
    assert brief(look(sandbox)) == {
        ("ERROR", "row_image", "shop/80-"),
        ("WARNING", "retention", "shop/80-"),
        ("WARNING", "throttler", "shop/80-"),
    }


def test_a_clock_that_is_wrong() -> None:
    """Only the certain part of the difference counts."""
    cluster = Cluster(now=lambda: time.time() + 100)
    cluster.create_keyspace("shop", ["0"])
    columns = (Column("id", "int", nullable=False),)
    cluster.create_table("shop", Table("item", columns, primary_key=("id",)))
    with serve(cluster) as served:
        found = look(served)
    assert brief(found) == {("WARNING", "clock", "shop/0")}
    assert re.search("9[0-9] s behind|100 s behind", the(found, "clock").what)


def test_a_lost_position(sandbox: Sandbox) -> None:
    """Purged on one shard, and the other is fine."""
    target = Target()
    run(settings(sandbox), target)
    sandbox.cluster.insert("shop", "item", [{"id": b"%d" % i} for i in range(100, 140)])
    sandbox.cluster.purge_binlogs("shop", "-80")
    found = look(sandbox, target.state)
    assert brief(found) == {("ERROR", "position", "shop/-80")}
    assert "item, other" in the(found, "position").what


def test_a_state_that_lacks_a_shard(sandbox: Sandbox) -> None:
    target = Target()
    run(settings(sandbox), target)
    found = look(sandbox, without_shard(target.state, "80-"))
    assert brief(found) == {("ERROR", "position", "shop")}
    assert "item, other: the bookmark knows nothing of shard 80-" in the(found, "position").what


def test_a_state_of_before_a_reshard(sandbox: Sandbox) -> None:
    target = Target()
    run(settings(sandbox), target)
    sandbox.cluster.reshard("shop", ["-80"], ["-40", "40-80"])
    assert brief(look(sandbox, target.state)) == {("WARNING", "position", "shop/-80")}
    sandbox.cluster.drop_old_shards("shop")
    assert brief(look(sandbox, target.state)) == {("ERROR", "position", "shop/-80")}


def test_a_moved_table(sandbox: Sandbox) -> None:
    sandbox.cluster.create_keyspace("dst", ["0"])
    sandbox.cluster.routes["shop", "other"] = "dst"
    found = look(sandbox, keyspaces=["shop"])
    assert brief(found) == {("ERROR", "moved", "shop.other")}
    assert the(found, "moved").advice == "read dst.other instead"


def test_a_catalog_narrows_the_view(sandbox: Sandbox) -> None:
    """Tables that are not selected are not judged; those that are gone are named."""
    bare = Table("bare", (Column("v", "int"),))
    sandbox.cluster.create_table("shop", bare)
    found = Config.from_settings(settings(sandbox))
    assert brief(examine(found, {"shop": {"item": ("id",)}})) == set()
    assert brief(examine(found, {"shop": {"item": ("id",), "bare": ()}})) == {
        ("WARNING", "key", "shop.bare")
    }
    assert brief(examine(found, {"shop": {"gone": ()}, "no": {"t": ()}})) == {
        ("ERROR", "catalog", "shop.gone"),
        ("ERROR", "keyspace", "no"),
    }


def test_a_table_with_a_percent_sign(sandbox: Sandbox) -> None:
    """It is read under its own name."""
    columns = (Column("id", "int", nullable=False),)
    sandbox.cluster.create_table("shop", Table("percent%", columns, primary_key=("id",)))
    assert brief(look(sandbox)) == set()


def test_patterns_that_match_nothing(sandbox: Sandbox) -> None:
    found = the(look(sandbox, tables=["shop.item", "shop.itme*"]), "config")
    assert "shop.itme* matches no table" in found.what


def test_tablets_of_the_wrong_type(sandbox: Sandbox) -> None:
    """Nothing else is asked of REPLICAs that are not there, but all else is told."""
    found = look(sandbox, tablet_type="REPLICA")
    assert {f.check for f in found if f.severity is ERROR} == {"tablets", "shard"}
    assert any(f.check == "tables" for f in found)


@pytest.mark.slow
def test_several_shards_and_no_vschema(sandbox: Sandbox) -> None:
    """VTGate says something of "exactly one shard"; a run and the doctor say what is missing."""
    sandbox.cluster.empty_vschema("shop")
    assert ("ERROR", "vschema", "shop") in brief(look(sandbox))
    with pytest.raises(RequestError, match="its VSchema does not say that it is sharded"):
        run(settings(sandbox), Target())


def test_a_table_acl_is_no_wrong_password(sandbox: Sandbox) -> None:
    """Told by the table that it is about, in discovery and by the doctor."""
    denied = (
        "target: shop.-80.primary: vttablet: rpc error: code = PermissionDenied desc = Select "
        "command denied to user 'elt' for table 'columns' (ACL check error) (CallerID: elt)"
    )
    refused = "from information_schema.columns", 1045, denied
    sandbox.faults.append(Fault(refused=refused, times=None))
    with pytest.raises(AuthError, match=r"a table ACL .* for table 'columns'"):
        discover(settings(sandbox))
    found = [f for f in look(sandbox) if f.severity is ERROR]
    assert found
    assert all("a table ACL of the tablets" in f.what for f in found)


def test_a_finding_names_its_keyspace_once() -> None:
    """Errors may name the keyspace, which stands beside what a finding says."""
    error = RetriableError("shop: VTGate reported the position of no shard")
    found = failed("x", error, Place("shop", "-80"))
    assert found.what == "VTGate reported the position of no shard"
    assert failed("x", error).what == str(error)


def test_a_stream_that_does_not_open(sandbox: Sandbox) -> None:
    """What SQL cannot tell: VTGate answers, and no shard does."""
    sandbox.faults.append(Fault(stall_after_events=1))
    assert brief(look(sandbox, connect_timeout_seconds=1.5)) == {("ERROR", "stream", "shop/80-")}
    sandbox.faults.append(Fault(error="unavailable"))
    assert brief(look(sandbox)) == {("ERROR", "stream", "shop")}


def test_sql_is_dead(sandbox: Sandbox) -> None:
    """Streams are still tried, on the shards of the state."""
    target = Target()
    run(settings(sandbox), target)
    with serve(sandbox.cluster, mysql_port=None) as other:
        config_ = {**settings(sandbox), "grpc_port": other.grpc_port, "mysql_port": 1}
        found = examine(Config.from_settings(config_), None, target.state["bookmarks"])
    assert brief(found) == {("ERROR", "mysql", "VTGate")}
    assert any(f.check == "stream" and f.severity is OK for f in found)


def test_grpc_is_dead(sandbox: Sandbox) -> None:
    """All that SQL tells is told."""
    found = look(sandbox, grpc_port=1)
    assert brief(found) == {("ERROR", "grpc", "VTGate")}
    assert {"shard", "tablets", "tables"} <= {f.check for f in found}


def test_a_wrong_password_is_told_of_both_ports() -> None:
    cluster = Cluster()
    cluster.create_keyspace("shop", ["0"])
    with serve(cluster, username="elt", password=SECRET) as served:
        found = look(served, user="elt", password="wrong-" + SECRET)
    assert brief(found) == {("ERROR", "grpc", "VTGate"), ("ERROR", "mysql", "VTGate")}
    assert all("settings user and password" in f.what for f in found)
    assert SECRET not in as_json(found)


@pytest.mark.slow
def test_the_command(sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files in, one document out, exit code by severity."""
    config_path, catalog_path, state_path = (tmp_path / n for n in ("c.json", "cat.json", "s.json"))
    config_path.write_text(json.dumps(settings(sandbox)))
    catalog_path.write_text(json.dumps(discover(settings(sandbox))))
    target = Target()
    run(settings(sandbox), target)
    state_path.write_text(json.dumps(target.state))
    files = ["--config", str(config_path), "--catalog", str(catalog_path)]
    assert main([*files, "--state", str(state_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exit_code"] == 0
    assert main([*files]) == 0
    assert capsys.readouterr().out.endswith("0 errors, 0 warnings, 0 notes, 8 checks passed\n")
    state_path.write_text("[]")
    assert main([*files, "--state", str(state_path)]) == 1
    assert "not a Singer state" in capsys.readouterr().out
    sandbox.cluster.shard("shop", "-80").variables["binlog_row_image"] = "NOBLOB"
    assert main(files) == 0
    assert ", 1 note, " in capsys.readouterr().out
    sandbox.cluster.shard("shop", "-80").variables["binlog_expire_logs_seconds"] = "60"
    assert main(files) == 3


def test_a_missing_config_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "/no/such.json"]) == 1
    assert "/no/such.json cannot be read" in capsys.readouterr().out


@pytest.mark.slow
def test_it_starts_without_the_sdk() -> None:
    """It is quick to start, and works where the SDK does not."""
    code = "import sys, tap_vitess.doctor.commands; sys.exit('singer_sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
