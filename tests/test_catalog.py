"""A catalog given is read as the SDK reads it, and its streams are told as the SDK would tell."""

from __future__ import annotations

import copy
import json
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from singer_sdk.mapper import PluginMapper
from singer_sdk.singerlib import Catalog

from tap_vitess.airbyte.catalog import stream_of
from tap_vitess.errors import CatalogError
from tap_vitess.singer import plain as catalog
from tap_vitess.singer.columns import AUTOMATIC, DELETED_AT, json_schema
from tap_vitess.singer.plain import is_plain
from tap_vitess.singer.streams import VitessStream
from tap_vitess.singer.tap import TapVitess
from tap_vitess.survey.facts import Column, Table
from tap_vitess.values.types import DEFAULTS

Json = dict[str, Any]

SETTINGS: Json = {"host": "localhost", "keyspaces": ["ks"]}
COLUMNS = ["id", "a", "b", DELETED_AT, "_sdc_vitess_op"]
TYPES = st.sampled_from(["string", ["string", "null"], ["object", "null"], ["integer", "null"]])
LEAVES = st.fixed_dictionaries(
    {"type": TYPES},
    optional={
        "format": st.sampled_from(["date-time", "x-singer.decimal"]),
        "maximum": st.sampled_from([True, 1, 1.0]),
        "x-sql-datatype-properties": st.fixed_dictionaries({"precision": st.integers(1, 2)}),
        "unknown": st.just("left out by the SDK"),
    },
)
NESTED = st.fixed_dictionaries(
    {"type": st.just(["object", "null"]), "properties": st.just({"x": {"type": "string"}})}
)
UNTYPED: st.SearchStrategy[Json] = st.one_of(
    st.just({}), st.fixed_dictionaries({"anyOf": st.lists(LEAVES, min_size=1)})
)
NOTES = st.fixed_dictionaries(
    {},
    optional={
        "inclusion": st.sampled_from(["automatic", "available", "unsupported"]),
        "selected": st.booleans(),
        "selected-by-default": st.booleans(),
    },
)


ODDITIES = ["none", "nested", "untyped", "missing", "own", "keys", "stream"]


@st.composite
def entries(draw: st.DrawFn, table: str) -> Json:
    """Draw a stream of a catalog, mostly as discovered but for what somebody has deselected."""
    columns = draw(st.lists(st.sampled_from(COLUMNS), unique=True))
    odd = draw(st.sampled_from(ODDITIES))
    properties: st.SearchStrategy[Any] = {"nested": NESTED, "untyped": UNTYPED}.get(odd, LEAVES)
    schema: Json = {"properties": {c: draw(properties | LEAVES) for c in columns}}
    schema |= draw(st.sampled_from([{}, {"type": "object"}, {"type": "object", "title": "t"}]))
    if draw(st.booleans()):
        schema["required"] = draw(st.lists(st.sampled_from(COLUMNS), unique=True))
    crumbs: list[list[str]] = [["properties", c] for c in columns]
    if odd == "nested":
        crumbs += [["properties", c, "properties", "x"] for c in columns]
    if odd == "missing":
        crumbs = [crumb for crumb in crumbs if draw(st.booleans())]
    noted: list[Json] = []
    for crumb in crumbs:
        note = draw(NOTES)
        if crumb[1] in AUTOMATIC and odd != "own":
            note = {**note, "inclusion": "automatic"}
        noted.append({"breadcrumb": crumb, "metadata": note})
    chosen: Json = draw(st.sampled_from([{}, {"selected": True}, {"selected": False}]))
    root = {**draw(NOTES), **chosen, "schema-name": "ks", "table-key-properties": ["id"]}
    entry = {
        "tap_stream_id": f"ks-{table}",
        "schema": schema,
        "metadata": [*noted, {"breadcrumb": [], "metadata": root}],
    }
    if odd != "keys":
        entry["key_properties"] = ["id"]
    if odd != "stream":
        entry["stream"] = f"ks-{table}"
    return entry


DOCUMENTS = st.tuples(entries("t"), entries("u")).map(lambda both: {"streams": list(both)})


def streams(document: Json, **settings: Any) -> dict[str, VitessStream]:
    """Return a tap's streams of a catalog."""
    found = TapVitess(config={**SETTINGS, **settings}, catalog=copy.deepcopy(document)).streams
    return {name: s for name, s in found.items() if isinstance(s, VitessStream)}


@pytest.mark.slow
@given(DOCUMENTS)
def test_a_catalog_is_read_as_the_sdk_reads_it(document: Json) -> None:
    """Every member of every stream, in the same order."""
    found, told = catalog.read(document), Catalog.from_dict(document)
    assert found is not None
    assert json.dumps(found.to_dict()) == json.dumps(told.to_dict())
    for name, entry in told.items():
        assert found[name].metadata == entry.metadata
        assert found[name].metadata.resolve_selection() == entry.metadata.resolve_selection()


@pytest.mark.slow
@settings(max_examples=200)
@given(DOCUMENTS)
def test_streams_are_told_as_the_sdk_would_tell(document: Json) -> None:
    """With columns or tables deselected, nested properties, and own columns that are not ours."""
    mapper = PluginMapper({}, logging.getLogger(__name__))
    read = Catalog.from_dict(copy.deepcopy(document))
    mapper.register_raw_streams_from_catalog(read)
    for name, stream in streams(document).items():
        event(f"plain: {stream.plain}")
        assert stream.plain == is_plain(read[name])
        if not (stream.plain or stream.selected):
            continue  # nothing of it is told
        (told,), (found,) = mapper.stream_maps[name], stream.stream_maps
        assert type(found) is type(told)
        assert found.stream_alias == told.stream_alias
        assert json.dumps(found.transformed_schema) == json.dumps(told.transformed_schema)
        assert json.dumps(found.raw_schema) == json.dumps(told.raw_schema)
        keys = [list(m.transformed_key_properties or ()) for m in (found, told)]
        assert keys[0] == keys[1]
        assert not found.flattening_enabled


def test_numbers_that_are_equal_are_not_alike() -> None:
    """Python takes 1, 1.0 and true for the same key."""
    properties = {str(i): {"type": "integer", "maximum": m} for i, m in enumerate([1, True, 1.0])}
    entry = {"tap_stream_id": "ks-t", "schema": {"properties": properties}, "metadata": []}
    found = catalog.read({"streams": [entry]})
    assert found is not None
    told = json.dumps(found["ks-t"].schema.to_dict()["properties"], sort_keys=True)
    assert told == json.dumps(properties, sort_keys=True)


def discovered() -> Json:
    """Return a catalog as the tap writes it."""
    kinds = {"id": "bigint", "a": "decimal(5,2)", "b": "json"}
    columns = [Column(name, kind, name != "id", None) for name, kind in kinds.items()]
    schema = json_schema(Table("ks", "t", tuple(columns), ("id",)), DEFAULTS, metadata_columns=True)
    tap = TapVitess(config=SETTINGS, setup_mapper=False, validate_config=False)
    stream = VitessStream(tap, "ks-t", "ks", "t", schema, ["id"], lambda _: iter(()))
    entry = {
        "tap_stream_id": "ks-t",
        "stream": "ks-t",
        "key_properties": ["id"],
        "schema": schema,
        "metadata": json.loads(json.dumps(stream.metadata.to_list())),
    }
    return {"streams": [entry]}


def test_a_discovered_table_is_spared_the_mapper() -> None:
    """It is plain; not so where a setting maps or flattens."""
    assert streams(discovered())["ks-t"].plain
    assert not streams(discovered(), stream_maps={"ks-t": {"a": None}})["ks-t"].plain
    assert not streams(discovered(), stream_maps={"__else__": None})["ks-t"].plain
    flattened = streams(discovered(), flattening_enabled=True, flattening_max_depth=1)["ks-t"]
    assert not flattened.plain
    assert flattened.stream_maps[0].flattening_enabled


def test_columns_that_read_alike_are_selected_by_themselves() -> None:
    """An own column is automatic, whatever the catalog says, and no other column with it."""
    document = discovered()
    for note in document["streams"][0]["metadata"]:
        if note["breadcrumb"]:
            note["metadata"] = {"inclusion": "available", "selected": False}
    assert streams(document)["ks-t"].wanted == AUTOMATIC


def test_an_own_column_that_is_not_automatic_goes_through_the_mapper() -> None:
    """The SCHEMA lacks it where the catalog deselects it, although records have it."""
    document = discovered()
    for note in document["streams"][0]["metadata"]:
        if note["breadcrumb"] == ["properties", "_sdc_vitess_op"]:
            note["metadata"] = {"inclusion": "available", "selected": False}
    stream = streams(document)["ks-t"]
    assert "_sdc_vitess_op" in stream.wanted
    assert "_sdc_vitess_op" not in stream.stream_maps[0].transformed_schema["properties"]


def test_nothing_is_selected_of_a_table_that_is_not() -> None:
    """Not even a column of which the catalog notes nothing."""
    document = discovered()
    notes = document["streams"][0]["metadata"]
    notes[:] = [note for note in notes if note["breadcrumb"] != ["properties", "a"]]
    notes[-1]["metadata"]["selected"] = False
    stream = streams(document)["ks-t"]
    assert stream.plain
    assert stream.stream_maps[0].transformed_schema["properties"] == {}


def test_members_that_read_alike_are_selected_by_themselves() -> None:
    """A copy in depth would keep together what is one object."""
    document = discovered()
    (entry,) = document["streams"]
    members = {"type": ["object", "null"], "properties": {"x": {"type": "string"}}}
    for column in ("a", "b"):
        entry["schema"]["properties"][column] = copy.deepcopy(members)
    deselected = ["properties", "a", "properties", "x"]
    entry["metadata"].append({"breadcrumb": deselected, "metadata": {"selected": False}})
    (told,) = streams(document)["ks-t"].stream_maps
    assert told.transformed_schema["properties"]["a"]["properties"] == {}
    assert told.transformed_schema["properties"]["b"]["properties"] == members["properties"]


@pytest.mark.parametrize(
    "broken",
    [
        {"streams": [{}]},
        {"streams": ["t"]},
        {"streams": [{"tap_stream_id": "ks-t", "schema": {"properties": {"a": "int"}}}]},
        {"streams": [{"tap_stream_id": "ks-t", "schema": {}, "metadata": [{}]}]},
        {"streams": [{"tap_stream_id": "ks-t", "schema": {}, "metadata": [{"breadcrumb": []}]}]},
    ],
)
def test_what_is_no_catalog(broken: Json) -> None:
    """One sentence that names the place, where the SDK would raise an error of Python's."""
    with pytest.raises(CatalogError, match="stream 1 of the catalog is not as discovery writes"):
        TapVitess(config=SETTINGS, catalog=broken)


def test_the_replication_method_of_the_root() -> None:
    """Where Singer has it, it counts; the entry's own member is what discovery wrote."""
    document = discovered()
    [root] = [m for m in document["streams"][0]["metadata"] if not m["breadcrumb"]]
    root["metadata"]["replication-method"] = "FULL_TABLE"
    [entry] = catalog.read(document).streams
    assert entry.replication_method == "FULL_TABLE"


KINDS = (
    *("bigint", "decimal(5,2)", "double", "varchar(9)", "blob", "date", "datetime(3)", "timestamp"),
    *("time", "year", "json", "bit(3)", "enum('a')", "set('a')", "geometry", "vector(3)"),
)


def dicts(value: object) -> Iterator[int]:
    """Yield which dicts and lists there are within, once for each place."""
    if isinstance(value, dict | list):
        yield id(value)
        for member in value.values() if isinstance(value, dict) else value:
            yield from dicts(member)


@pytest.mark.parametrize("front_end", ["singer", "airbyte"])
def test_schemas_share_nothing(front_end: str) -> None:
    """Whoever changes his catalog changes nobody else's, nor the next one."""
    columns = [
        Column(f"{kind} {i}", kind, nullable=True, charset=None) for kind in KINDS for i in range(2)
    ]
    table = Table("ks", "t", tuple(columns), ())

    def made() -> Json:
        if front_end == "airbyte":
            found: Json = stream_of(table, DEFAULTS)["json_schema"]
            return found
        return json_schema(table, DEFAULTS, metadata_columns=True)

    both = [made(), made()]
    found = Counter(place for schema in both for place in dicts(schema))
    assert set(found.values()) == {1}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("key_properties", True),
        ("key_properties", [7]),
        ("stream", 7),
        ("replication_method", []),
        ("tap_stream_id", "\ud800"),
    ],
)
def test_a_member_of_another_type_is_told_by_its_place(member: str, value: object) -> None:
    """The SDK takes it, and stumbles over it in the middle of a run."""
    document = discovered()
    document["streams"][0][member] = value
    words = r"stream 1 of the catalog is not as discovery writes it \(.*\): discover again"
    with pytest.raises(CatalogError, match=words):
        catalog.read(document)


def test_a_stream_of_two_names() -> None:
    document = discovered()
    document["streams"][0]["stream"] = "renamed"
    with pytest.raises(CatalogError, match="the catalog calls it renamed, too"):
        catalog.read(document)


@pytest.mark.parametrize("document", [{}, {"streams": None}, {"streams": {}}, {"stream": []}])
def test_a_catalog_without_streams(document: Json) -> None:
    with pytest.raises(CatalogError, match="no list of streams"):
        TapVitess(config=SETTINGS, catalog=document)
