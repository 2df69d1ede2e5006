"""Settings as they are given: by files, the environment and every front end, right and wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.taps import Target, run, settings

from tap_vitess.airbyte.spec import config_of
from tap_vitess.config import SETTINGS, Config
from tap_vitess.errors import ConfigError, StateError
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.settings import OF_THE_SDK, checked, of_environment, read_config, read_json
from tap_vitess.singer.tap import TapVitess
from tap_vitess.vstream import Vitess

HOST = {"host": "nowhere.invalid"}
Taken = Callable[[Mapping[str, Any]], object]


def by_file(given: Mapping[str, Any]) -> Config:
    """Take settings as the doctor does, from a file; /dev/stdin stands for any."""
    folder = Path(os.environ["PYTEST_FOLDER"])
    (folder / "config.json").write_text(json.dumps(given))
    return read_config([str(folder / "config.json")], {})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_FOLDER", str(tmp_path))


def by_tap(given: Mapping[str, Any]) -> Config:
    return TapVitess(config=dict(given), catalog={"streams": []}).settings


FRONTS = [by_file, by_tap, config_of]
EVERYWHERE = pytest.mark.parametrize("take", FRONTS, ids=["doctor", "tap", "airbyte"])


@EVERYWHERE
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"tabels": ["shop.*"]}, "setting tabels: there is no such setting; did you mean tables?"),
        ({"Tables": ["shop.*"]}, "setting Tables: .* it is written tables"),
        ({"exclude-tables": []}, "setting exclude-tables: .* it is written exclude_tables"),
        ({"port": 3306}, "setting port: .* has for it is grpc_port and mysql_port"),
        ({"username": "u"}, "setting username: .* has for it is user"),
        ({"database": "d"}, "setting database: .* has for it is keyspaces"),
        ({"ssl": True}, "setting ssl: .* has for it is tls"),
        ({"qwertz": 1}, "setting qwertz: there is no such setting; docs/settings.md"),
        ({"tabels": [], "ssl": True}, "setting ssl: .*; setting tabels: "),
    ],
)
def test_a_setting_that_does_not_exist(take: Taken, wrong: dict[str, Any], words: str) -> None:
    """It names the nearest one, in every front end alike."""
    with pytest.raises(ConfigError, match=words):
        take({**HOST, **wrong})


def test_the_library_refuses_it_in_the_words_of_python() -> None:
    with pytest.raises(TypeError, match="tabels"):
        Vitess("h", tabels=[])  # type: ignore[call-arg]


def test_the_settings_of_the_sdk_are_those_of_its_schemas() -> None:
    assert TapVitess.schemas().keys() - SETTINGS.keys() == OF_THE_SDK


@EVERYWHERE
def test_the_settings_of_the_sdk_are_let_through(take: Taken) -> None:
    """They stand in the file that the tap, the doctor and the mirror share."""
    take({**HOST, "stream_maps": {}, "flattening_enabled": False, "stream_map_config": {}})
    take({**HOST, "stream_maps": None, "batch_config": None, "flattening_max_depth": None})


@EVERYWHERE
@pytest.mark.parametrize("name", ["max_run_seconds", "connect_timeout_seconds", "progress_seconds"])
@pytest.mark.parametrize("value", [1800.0, 2.5, "2.5", "5", Decimal("2.50"), Decimal(7)])
def test_numbers_with_a_point(take: Taken, name: str, value: Any) -> None:
    """Python's own floats come of all of them, also where the SDK read them as Decimal."""
    if isinstance(value, Decimal) and take is by_file:
        value = float(value)
    found = getattr(take({**HOST, name: value}), name)
    assert (type(found), found) in {(float, float(value)), (int, int(float(value)))}


@EVERYWHERE
@pytest.mark.parametrize("value", [15991, 15991.0, "15991"])
def test_a_port_is_an_integer(take: Taken, value: Any) -> None:
    found = take({**HOST, "grpc_port": value})
    assert isinstance(found, Config)
    assert (type(found.grpc_port), found.grpc_port) == (int, 15991)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_run_seconds": float("inf")}, "max_run_seconds: a finite number"),
    ({"checkpoint_seconds": float("nan")}, "checkpoint_seconds: a finite number"),
    ({"max_run_seconds": 1e300}, "setting max_run_seconds: 1e.300 is greater"),
    ({"max_run_seconds": "soon"}, "setting max_run_seconds: 'soon' is not"),
    ({"grpc_port": 10**20}, "setting grpc_port: 1000"),
    ({"grpc_port": 0}, "setting grpc_port: 0 is less"),
    ({"grpc_port": 1.5}, "setting grpc_port: 1.5 is not"),
    ({"mysql_port": "9" * 30}, "setting mysql_port: 9999"),
    ({"max_message_bytes": 1 << 40}, "setting max_message_bytes: "),
    ({"host": "a..b"}, "setting host: 'a..b' is not a host name"),
    ({"host": "a" * 64}, "setting host: 'aaa.*is not a host name"),
    ({"host": "vtgate:15991"}, "setting host: .*with a port"),
    ({"host": "grpc://vtgate"}, "setting host: .*more than a name"),
    ({"host": "a b"}, "setting host: a name has no blanks"),
    ({"host": ""}, "setting host: '' "),
    ({"user": "\ud800", "password": ""}, "setting user: half of a surrogate"),
    ({"tables": ["a.\udfff"]}, "setting tables: half of a surrogate"),
    ({"cells": ["a\0b"]}, "setting cells: text cannot have a NUL"),
    ({"tls": True, "tls_ca_file": "x" * 5000}, "setting tls_ca_file: there is no file"),
    ({"tables": ["x" * 100_000]}, r"has no dot"),
    ({"cells": ["x" * 100_000, 5]}, "setting cells: "),
    ({"exclude_tables": ["secret"]}, "exclude_tables: 'secret' has no dot.*secret"),
    ({"tables": ["orders"]}, "setting tables: 'orders' has no dot.*keyspace.table"),
    ({"resync_tables": ["orders"]}, "setting resync_tables: 'orders' has no dot"),
    ({"stream_name": "{keyspace}"}, "setting stream_name: write {table} exactly once"),
    ({"stream_name": "{table}{shard}"}, "setting stream_name: the only placeholders"),
    ({"stream_name": "{table!r}"}, "setting stream_name: the only placeholders"),
    ({"password": "p"}, "password is given without user"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_values_are_one_sentence(wrong: dict[str, Any], words: str) -> None:
    """It names the setting, and is no longer than a line in a log should be."""
    for take in (checked, by_tap):
        with pytest.raises(ConfigError, match=words) as caught:
            take({**HOST, **wrong})
        assert len(str(caught.value)) < 600
        assert str(caught.value).isprintable()


def test_nested_too_deep() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ConfigError, match="setting tables: it is nested too deep"):
        checked({**HOST, "tables": deep})
    while deep:  # Python would end in its own destructor
        deep = deep.pop()


@pytest.mark.parametrize(
    "pattern", ["*", "*.*", "*audit*", "shop.*", "a.b", "*_log", "[a-z]*.x", "s?op.t"]
)
def test_patterns_that_may_fit(pattern: str) -> None:
    """A pattern that begins with * fits whole names."""
    assert checked({**HOST, "exclude_tables": [pattern]}).exclude_tables == (pattern,)


@EVERYWHERE
def test_a_user_without_a_password_has_an_empty_one(take: Taken) -> None:
    found = take({**HOST, "user": "root"})
    assert isinstance(found, Config)
    assert (found.user, found.password) == ("root", "")


# The environment

VARIABLES = {
    "TAP_VITESS_HOST": "h",
    "TAP_VITESS_PROGRESS_SECONDS": "0.5",
    "TAP_VITESS_GRPC_PORT": "1234",
    "TAP_VITESS_TABLES": '["shop.*"]',
    "TAP_VITESS_TLS": "yes",
    "TAP_VITESS_LOGLEVEL": "DEBUG",
    "TAP_VITESS_PART_HOST": "of a plugin that inherits",
    "TAP_VITESS__SELECT": "Meltano's",
}


def test_the_environment() -> None:
    """Numbers are numbers; what is not ours is passed over."""
    found = read_config(["ENV"], VARIABLES)
    assert (found.host, found.progress_seconds, found.grpc_port) == ("h", 0.5, 1234)
    assert found.tables == ("shop.*",)
    assert found.tls is not None


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("TAP_VITESS_TABELS", "TAP_VITESS_TABELS: there is no setting tabels; did you mean tables"),
        ("TAP_VITESS_USERNAME", "has for it is user"),
        ("TAP_VITESS_EXCLUDE_TABLE", "did you mean exclude_tables"),
    ],
)
def test_a_variable_that_is_misspelt(variable: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        of_environment({**VARIABLES, variable: "x"})


def test_the_tap_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the SDK's own settings, which nobody else looks at."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TAP_VITESS_FLATTENING_MAX_DEPTH", "3")
    monkeypatch.setenv("TAP_VITESS_STREAM_MAPS", '{"shop-a": {}}')
    tap = TapVitess(config={}, parse_env_config=True, catalog={"streams": []})
    assert (tap.settings.host, tap.settings.progress_seconds) == ("h", 0.5)
    assert tap.config["flattening_max_depth"] == 3
    assert tap.config["stream_maps"] == {"shop-a": {}}
    monkeypatch.setenv("TAP_VITESS_GRPC_PORT", "x")
    with pytest.raises(
        ConfigError, match="setting grpc_port: the environment variable is not a valid"
    ):
        TapVitess(config={}, parse_env_config=True, catalog={"streams": []})


# Files

FILES: list[tuple[bytes | None, str]] = [
    (b"", "is empty"),
    (b" \n", "is empty"),
    (b"{bad", "is not JSON"),
    (b'{"a": "\xff"}', "is not UTF-8"),
    (b"[" * 200_000, "is nested too deep|is not JSON"),
    (b'{"a": ' + b"1" * 5000 + b"}", "is not JSON"),
    (None, "cannot be read"),
]


@pytest.mark.parametrize(("content", "words"), FILES, ids=lambda v: str(v)[:20])
def test_files_that_hold_no_json(tmp_path: Path, content: bytes | None, words: str) -> None:
    """The error names the file; a folder is none."""
    path = tmp_path / "given.json"
    path.write_bytes(content) if content is not None else path.mkdir()
    with pytest.raises(StateError, match=f"given.json ({words})"):
        read_json(str(path), StateError)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--config", "--catalog", "--state"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"null", b'{"a": "\xff"}', b"[" * 200_000])
def test_the_tap_names_the_file(tmp_path: Path, option: str, content: bytes) -> None:
    """In a process: one sentence, exit code 1, no traceback."""
    (tmp_path / "bad.json").write_bytes(content)
    (tmp_path / "c.json").write_text(json.dumps(HOST))
    arguments = ["--config", str(tmp_path / "c.json"), option, str(tmp_path / "bad.json")]
    done = subprocess.run(
        [sys.executable, "-m", "tap_vitess", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "bad.json" in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_a_run_with_numbers_of_the_sdk(sandbox: Sandbox) -> None:
    """As `1800.0` comes out of the SDK's reading of a file."""
    config = settings(
        sandbox,
        max_run_seconds=Decimal("1800.0"),
        connect_timeout_seconds=Decimal("2.5"),
        progress_seconds=Decimal("0.5"),
        stream_maps=None,
    )
    target = Target()
    assert run(config, target)
    assert target.records()
