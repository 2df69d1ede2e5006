"""Answers that no Vitess gives: each is an error with a sentence, or one table's alone."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from support.findings import look
from support.shops import insert, shop, table
from support.taps import QuickTap, Target, check, discover, expected, run, settings

from tap_vitess.doctor.findings import Severity
from tap_vitess.errors import ProtocolError, ValueDecodeError
from tap_vitess.protocol.gtid import Goal, GtidSet
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.schema import Column
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.values.mysql_types import value_type

UUID = "6f1b1f0c-5a7e-4f0e-9a55-7a1f2d3c4b5a"
TYPES = ("decimal(x,y)", "decimal(10,y)", "decimal(,)", "decimal(66,2)", "float(x,y)", "double(9,)")


@pytest.mark.parametrize("kind", [*TYPES, f"decimal({'9' * 5000})", "float(10,99999999999)"])
@pytest.mark.parametrize("copying", [True, False])
def test_precision_that_is_none(kind: str, *, copying: bool) -> None:
    """The column is passed on as text, as one of a type that is not known, with a warning."""
    found = value_type(kind, "utf8mb4", copying=copying)
    assert found.schema == {"type": "string"}
    assert found.convert(b"1.50") == "1.50"
    assert found.warning is not None


@pytest.mark.parametrize("kind", ["decimal", "decimal(65,30)", "decimal( 10 , 2 )", "decimal(5)"])
def test_precision_of_mysql(kind: str) -> None:
    assert value_type(kind, None).schema["format"] == "x-singer.decimal"


@pytest.mark.parametrize("digits", [20, 4_301])
def test_a_transaction_of_many_digits(digits: int) -> None:
    """Python would refuse to read it, in words of its own."""
    text = f"MySQL56/{UUID}:1-{'9' * digits}"
    with pytest.raises(ProtocolError, match="ks/0: not a GTID set"):
        GtidSet.parse(text, "ks/0")
    goal = Goal(GtidSet.parse(f"{UUID}:1-5"), "ks/0")
    assert not goal.reached(f"MySQL56/{UUID}:1-3")
    with pytest.raises(ProtocolError, match="ks/0: not a GTID set"):
        goal.reached(text)
    assert goal.reached(f"MySQL56/{UUID}:1-{'9' * 19}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    ["", "nothing", "[]", "7", "null", "{}", '{"Keyspace": []}', '{"Inputs": 7}', "[" * 100_000],
)
def test_a_plan_that_is_none(plan: str, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Whether MoveTables took a table away is not known then; the run goes on."""
    target = Target()
    sandbox.faults.append(Fault(answered=("vexplain", plan), times=None))
    with caplog.at_level(logging.INFO):
        run(settings(sandbox), target)
    check(sandbox, target)
    unknown = [m for m in caplog.messages if "whether tables were moved away is not known" in m]
    assert len(unknown) == (plan != "{}")
    assert all("gives an answer that does not fit the question" in line for line in unknown)


@pytest.mark.parametrize(
    "words",
    ["@@global.gtid_executed", "vitess_shards", "vitess_tablets", "vschema keyspaces", "@@version"],
)
def test_answers_to_other_questions(words: str, sandbox: Sandbox) -> None:
    """The doctor tells them one by one, and ends as ever."""
    sandbox.faults.append(Fault(answered=(words, "what?"), times=None))
    found = look(sandbox)
    odd = [f for f in found if "does not fit the question" in f.what]
    assert all(f.severity is Severity.ERROR for f in odd)
    assert odd or words == "@@version"


def numbers() -> Cluster:
    cluster = shop(table("alpha"), table("beta", Column("n", "int")))
    insert(cluster, "alpha", *range(8))
    return cluster


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("copied", [True, False])
def test_an_integer_of_more_than_64_bits(*, rows: int, copied: bool) -> None:
    """Only its table is left behind, whether rows are written one by one; no value is told."""
    target = Target()
    # Some rows are on each shard; the last of each has no such value, and is not passed on.
    values = [{"id": b"%d" % i, "n": b"9" * 20 if i < rows else b"1"} for i in range(rows + 1)]
    with serve(numbers()) as served:
        catalog: Any = discover(settings(served))
        if not copied:
            run(settings(served), target, catalog=catalog, tap_class=QuickTap)
        served.cluster.insert("shop", "beta", values)
        with pytest.raises(ValueDecodeError, match=r"shop.beta .*64.bit") as caught:
            run(settings(served), target, catalog=catalog, tap_class=QuickTap)
        assert target.contents("shop-alpha") == expected(served.cluster, "shop", "alpha")
        assert target.contents("shop-beta") == []
    assert "999" not in str(caught.value)
