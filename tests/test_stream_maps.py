"""The SDK's stream maps and flattening: what they cannot do, and what has no stream to do it to."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.shops import everything, served
from support.taps import Target, discover, expected, only, run, settings

from tap_vitess.errors import ConfigError
from tap_vitess.sandbox.server import Sandbox


def mapped(sandbox: Sandbox, maps: dict[str, Any], *names: str) -> Target:
    """Run over some of the three tables."""
    target = Target()
    config = settings(sandbox)
    catalog = only(discover(config), *names)
    run({**config, "stream_maps": maps}, target, catalog=catalog)
    return target


@pytest.mark.parametrize(
    ("definition", "warned"),
    [
        ({"x": "name"}, True),
        ({"x": "name", "__source__": "shop-beta"}, True),
        (None, True),
        ({"x": "name", "__source__": "shop-a*"}, False),
    ],
)
def test_a_map_for_a_stream_that_is_not_selected(
    definition: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, *, warned: bool
) -> None:
    """A warning, as of one that is not there: it may be there to hide something."""
    target = mapped(sandbox, {"shop-beta": definition, "shop-nope": {"x": "1"}}, "shop-alpha")
    assert target.contents("shop-alpha") == expected(sandbox.cluster, "shop", "alpha")
    assert "setting stream_maps: shop-nope is not a selected stream" in caplog.text
    assert ("setting stream_maps: shop-beta is not a selected stream" in caplog.text) is warned


@pytest.mark.slow
@pytest.mark.parametrize(
    "definition",
    [
        {"x": "int(name)"},
        {"x": "1 / 0"},
        {"x": "id + name"},
        {"__filter__": "nosuch > 1"},
        {"__filter__": "name > 1"},
    ],
)
def test_a_map_that_fails_on_a_row(definition: dict[str, str], sandbox: Sandbox) -> None:
    """The table is left behind, without a word of the row; the others come."""
    config, target = settings(sandbox, stream_maps={"shop-alpha": definition}), Target()
    with pytest.raises(ConfigError, match="a row of shop-alpha cannot be mapped") as caught:
        run(config, target)
    assert caught.value.__cause__ is None
    assert target.contents("shop-beta") == expected(sandbox.cluster, "shop", "beta")
    assert target.records("shop-alpha") == []
    del config["stream_maps"]
    run(config, target)
    assert target.contents("shop-alpha") == expected(sandbox.cluster, "shop", "alpha")


def test_a_stream_gets_another_name(sandbox: Sandbox) -> None:
    """As docs/troubleshooting.md says, for names that a target would split."""
    target = mapped(sandbox, {"shop-beta": {"__alias__": "shop-b_eta"}}, "shop-beta")
    assert target.contents("shop-b_eta") == expected(sandbox.cluster, "shop", "beta")


@served(everything)
@pytest.mark.parametrize("depth", [0, 2])
def test_flattened_documents_fit_their_schema(depth: int, sandbox: Sandbox) -> None:
    """A number and a boolean are text where the SCHEMA says text."""
    target = Target()
    run(settings(sandbox, flattening_enabled=True, flattening_max_depth=depth), target)
    for message in target.messages:
        if message["type"] == "SCHEMA":
            validator = Draft202012Validator(message["schema"])
            records = target.records(message["stream"])
            assert records
            assert [e.message for r in records for e in validator.iter_errors(r)] == []
    documents = {r["id"]: r["document"] for r in target.records("shop-documents")}
    if depth:
        assert [documents[i] for i in range(1, 7)] == ["[1]", "text", "1.0", "true", None, None]
