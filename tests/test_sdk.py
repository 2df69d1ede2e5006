"""On the SDK: its standard tests pass, and what we override is still what it was."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import textwrap
from pathlib import Path
from typing import Any, ClassVar

import pytest
from singer_sdk import BatchSink, Stream, Tap, Target
from singer_sdk.helpers._state import StateWriter
from singer_sdk.helpers.capabilities import PluginCapabilities
from singer_sdk.mapper import PluginMapper, StreamMap
from singer_sdk.plugin_base import PluginBase
from singer_sdk.singerlib import Catalog, CatalogEntry, MetadataMapping
from singer_sdk.testing import SuiteConfig, get_tap_test_class
from singer_sdk.typing import BooleanType, PropertiesList, Property
from support.shops import UNTIL_THE_END, everything, served, three_tables
from support.taps import settings

from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.singer.tap import TapVitess

# The test classes discover when they are made, so the sandbox must run before pytest collects.
CONFIG = settings(UNTIL_THE_END.enter_context(serve(everything())))


# Copied rows have no commit time and are not deleted.
@pytest.mark.filterwarnings("ignore:No records were available:UserWarning")
class TestStandard(
    get_tap_test_class(  # type: ignore[misc]
        TapVitess,
        config={**CONFIG, "exclude_tables": ["shop.documents"]},
        suite_config=SuiteConfig(max_records_limit=20),
    )
):
    """The SDK's standard tap tests."""


class TestStandardJson(
    get_tap_test_class(  # type: ignore[misc]
        TapVitess,
        config={**CONFIG, "tables": ["shop.documents"]},
        suite_config=SuiteConfig(max_records_limit=20),
        # They take a column that may be an object for one that is never anything else.
        include_stream_attribute_tests=False,
    )
):
    """The SDK's standard tap tests for a table with JSON."""


# The parts of the SDK whose work `TapVitess`, `CommandLine` and `VitessStream` do themselves, or
# leave out where it changes nothing. When one of these fails, read what changed in the SDK, bring
# it over, and take the new hash.
OVERRIDDEN = {
    Tap.sync_all: "aaaa3fe9613757dc",
    Tap._handle_termination: "2fbd1f34fdfd215b",  # noqa: SLF001
    PluginBase._handle_termination: "0d08ff68880d92a2",  # noqa: SLF001
    Tap.invoke.__func__: "4d7db8c487adc143",  # type: ignore[attr-defined]
    PluginBase.invoke.__func__: "779952ec5c0c6410",  # type: ignore[attr-defined]
    PluginBase.cb_config.__func__: "5d222fae28faf81d",  # type: ignore[attr-defined]
    Tap.load_state: "184d94c20b458083",
    Tap.setup_mapper: "845c96139879d0c8",
    PluginBase.setup_mapper: "fbcb075e3f8681d6",
    PluginMapper.register_raw_streams_from_catalog: "43dc8082d11ee09b",
    PluginMapper.register_raw_stream_schema: "279282b2c0ec1029",
    StreamMap.__init__: "13db92d97303d958",
    Stream.apply_catalog: "d6364ab88a720643",
    Stream.stream_maps.fget: "949cbe5e644f3243",  # type: ignore[attr-defined]
    Stream.schema.fget: "2d72efbbbf74220a",  # type: ignore[attr-defined]
    StateWriter.write_state: "c4eb5a25bea822dd",
    Catalog.from_dict.__func__: "3ef4bcdda4dcd2cc",  # type: ignore[attr-defined]
    CatalogEntry.from_dict.__func__: "ec4619112fc755f4",  # type: ignore[attr-defined]
    MetadataMapping.from_iterable.__func__: "61db60b47aa3cab4",  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("function", OVERRIDDEN, ids=lambda f: f.__qualname__)
def test_what_we_override_has_not_changed(function: Any) -> None:
    """The SDK's own body is the one that ours stands for."""
    source = textwrap.dedent(inspect.getsource(function))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == OVERRIDDEN[function]


@served(three_tables)
def test_the_sdk_writes_no_batch(sandbox: Sandbox, tmp_path: Path) -> None:
    """Its own ignores selection and stream maps; ours is `singer/batch.py`."""
    encoding, storage = {"format": "jsonl"}, {"root": str(tmp_path)}
    config = settings(sandbox, batch_config={"encoding": encoding, "storage": storage})
    tap = TapVitess(config=config)
    assert PluginCapabilities.BATCH in tap.capabilities
    tap.streams["shop-alpha"].sync()
    assert not list(tmp_path.iterdir())


class Seen(BatchSink):
    """Tells the records in the order in which a target would store them."""

    records: ClassVar[list[dict[str, Any]]] = []

    def process_batch(self, context: dict[str, Any]) -> None:
        """Take them."""
        self.records.extend(context["records"])


class TargetOfSeen(Target):
    """A target of the SDK's, with nothing behind it."""

    name = "target-seen"
    config_jsonschema = PropertiesList(Property("add_record_metadata", BooleanType)).to_dict()
    default_sink_class = Seen


def test_what_targets_do_with_a_batch(tmp_path: Path) -> None:
    """Targets of the SDK put a BATCH before older RECORDs, and give its rows no version.

    So `singer/batch.py` never mixes the two in a stream, and writes the version into each row:
    ACTIVATE_VERSION would not find the rows that a copy has not brought again.
    """
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "text": "newer"}\n')
    schema = {"properties": {"id": {"type": "integer"}, "text": {"type": "string"}}}
    encoding = {"format": "jsonl", "compression": "none"}
    older = {"id": 1, "text": "older"}
    of = {"stream": "shop-orders"}
    messages: list[dict[str, Any]] = [
        {"type": "SCHEMA", **of, "schema": schema, "key_properties": ["id"]},
        {"type": "RECORD", **of, "record": older, "version": 1},
        {"type": "BATCH", **of, "encoding": encoding, "manifest": [rows.as_uri()]},
    ]
    lines = "".join(json.dumps(message) + "\n" for message in messages)
    TargetOfSeen(config={"add_record_metadata": True}).listen(io.StringIO(lines))
    assert [record["text"] for record in Seen.records] == ["newer", "older"]
    assert [record.get("_sdc_table_version") for record in Seen.records] == [None, 1]


def test_about_shows_settings_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Every setting has a title and a description; secrets are marked."""
    TapVitess.print_about("json")
    properties = json.loads(capsys.readouterr().out)["settings"]["properties"]
    own = {
        name: p
        for name, p in properties.items()
        if name in TapVitess.config_jsonschema["properties"]
    }
    assert all(p.get("description") for p in own.values())
    assert own["password"]["secret"]
    assert own["grpc_headers"]["secret"]
    assert "batch_config" in properties
