"""Settings become one frozen value; contradictions are named; secrets stay hidden."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.taps import settings as tap_settings

from tap_vitess.config import SETTINGS, Config
from tap_vitess.errors import (
    ConfigError,
)
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.singer.tap import TapVitess
from tap_vitess.values.types import ValueOptions
from tap_vitess.vstream import Vitess
from tap_vitess.vtgate.address import Tls


def config(**settings: Any) -> Config:
    return Config.from_settings({"host": "h", **settings})


def test_every_setting_is_a_field() -> None:
    """The schema and the value cannot drift apart."""
    tls = {f"tls_{field.name}" for field in dataclasses.fields(Tls)}
    values = {field.name for field in dataclasses.fields(ValueOptions)}
    own = {field.name for field in dataclasses.fields(Config)} - {"values"}
    assert own | tls | values == SETTINGS.keys()


def test_defaults_are_the_schemas() -> None:
    """What is not given is as the schema says."""
    found = config()
    assert (found.grpc_port, found.mysql_port, found.tablet_type) == (15991, 15306, "PRIMARY")
    assert found.tls is None
    assert (found.keyspaces, found.tables, found.exclude_tables) == (None, None, ())
    assert found.max_message_bytes is None
    assert Vitess("h").config() == found, "the library's are the same"


KEYSPACES = ["shop", "shop-2", "s.x", "[s"]
PATTERN = st.text("shop-2.x*?[]!", max_size=9) | st.sampled_from(
    ["*", "*.*", "shop.*", "sh*.t", "shop-2.t", "[s]hop.*", "?hop.t", "*.t", "shop*", "s.x.*"]
)
PATTERNS = st.lists(PATTERN.filter(lambda p: "." in p or p.startswith("*")), max_size=2)


@pytest.mark.slow
@given(
    st.sampled_from(KEYSPACES), st.sampled_from(["t", "o.x", "x"]), st.none() | PATTERNS, PATTERNS
)
@settings(max_examples=1000)
def test_no_keyspace_is_passed_over_that_has_a_wanted_table(
    keyspace: str, table: str, tables: list[str] | None, excluded: list[str]
) -> None:
    """Whatever the patterns."""
    found = config(tables=tables, exclude_tables=excluded)
    if found.wants(keyspace, table):
        assert found.may_want(keyspace)


def test_keyspaces_that_are_passed_over() -> None:
    """Where the patterns leave no doubt."""
    for more, wanted in (
        ({}, ["a", "ab", "b"]),
        ({"tables": ["a.*"]}, ["a"]),
        ({"tables": ["a*.t", "b.t"]}, ["a", "ab", "b"]),
        ({"tables": ["*.t"], "exclude_tables": ["a*.*"]}, ["b"]),
        ({"exclude_tables": ["a.t", "*.t", "b.*"]}, ["a", "ab"]),
    ):
        assert [name for name in ("a", "ab", "b") if config(**more).may_want(name)] == wanted


def test_secrets_are_in_no_repr() -> None:
    """Neither the password nor the headers show."""
    text = repr(config(user="u", password="geheim", grpc_headers={"authorization": "Basic xyz"}))
    assert "geheim" not in text
    assert "xyz" not in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"password": "p"}, "password is given without user"),
        ({"mirror_keyspace": "k"}, "mirror_keyspace and mirror_name"),
        ({"mirror_name": "k"}, "mirror_keyspace and mirror_name"),
        ({"start_from_mirror": True}, "start_from_mirror: there is no mirror"),
        ({"tls_ca_file": "x"}, "tls_ca_file.*tls is not true"),
        ({"tls": True, "tls_ca_file": "/no/such"}, "tls_ca_file: there is no file"),
        ({"tls": True, "tls_cert_file": "x"}, "go together"),
    ],
)
def test_contradictions(settings: dict[str, Any], words: str) -> None:
    """Each is one sentence that names the setting."""
    with pytest.raises(ConfigError, match=words):
        config(**settings)


@pytest.mark.parametrize(
    ("tables", "exclude", "inside", "outside"),
    [
        (None, [], ["a.b", "c.d"], []),
        (["a.*"], [], ["a.b"], ["b.a", "aa.b"]),
        (["*.b", "c.d"], ["c.b"], ["a.b", "c.d"], ["c.b", "a.d"]),
        (["a.order_?"], [], ["a.order_1"], ["a.order_12", "a.ORDER_1"]),
        ([], [], [], ["a.b"]),
    ],
)
def test_table_patterns(
    tables: list[str] | None, exclude: list[str], inside: list[str], outside: list[str]
) -> None:
    """Shell wildcards over keyspace.table, case-sensitive."""
    found = config(exclude_tables=exclude, **({} if tables is None else {"tables": tables}))
    assert [name for name in inside + outside if found.wants(*name.split("."))] == inside


@pytest.mark.parametrize(
    "wrong", [{"user": "u", "password": 98765}, {"grpc_headers": "Bearer 98765"}]
)
def test_secrets_of_a_wrong_type_are_not_quoted(
    sandbox: Sandbox, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK's validation would print them."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError, match="is expected") as caught:
        TapVitess(config=tap_settings(sandbox, **wrong))
    assert "98765" not in str(caught.value) + caplog.text
