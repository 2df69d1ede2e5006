"""What VTGate's gRPC port answers: responses doubled, cut, joined, in another order; odd statuses.

A live server between a tap and a sandbox changes one response of so many. What a reader cannot take
for wrong (an order that is another, a bit in a value, a row that is not there) may give other rows;
of all else the right rows come, or an error, and in the next run what was missing.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

import grpc
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from support.fuzzing import (
    PASSWORD,
    SECRETS,
    TABLES,
    TOKEN,
    VALUE,
    cases,
    ended,
    fill,
    fuzz,
    guarded,
    ids,
    outcome,
)
from support.proxies import Broken, grpc_proxy
from support.taps import Target, run, settings

from tap_vitess._proto.binlogdata_pb2 import VEvent, VEventType
from tap_vitess._proto.vtgate_pb2 import VStreamResponse
from tap_vitess.sandbox.errors import RECORDED
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.singer.tap import TapVitess
from tap_vitess.vtgate.retry import RetryOptions

pytestmark = fuzz


class BriefTap(TapVitess):
    """A tap that tries again for some seconds."""

    retry: ClassVar[RetryOptions] = RetryOptions(budget=4, longest_wait=0.01, settle=0.3, stall=3)


HARMLESS = ("late", "empty", "heartbeat", "unknown", "alone", "joined")
SEEN = ("status", "status after", "end", "cut", "garbage", "twice")
UNSEEN = ("drop", "swap", "earlier", "flip", "event")

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
DETAILS = [
    *("", "x" * 100_000, "\x1b[31m\n\x00", "%s {0} \N{SNOWMAN}", f"password {PASSWORD}"),
    f"Duplicate entry '{VALUE}' for key 'k'",
    *(error.details for error in RECORDED.values()),
    f"got metadata x-token: {TOKEN}",
]


@dataclass(frozen=True)
class Order:
    """What is done to which response of a run; `chance` decides the rest."""

    how: str
    turn: int
    code: int = 0
    details: int = 0
    chance: int = 0


orders = st.builds(
    Order,
    st.sampled_from(HARMLESS + SEEN * 2 + UNSEEN),
    st.integers(0, 25),
    st.integers(0, len(CODES) - 1),
    st.integers(0, len(DETAILS) - 1),
    st.integers(0, 2**32),
)


@dataclass
class Line:
    """A sandbox, and the port before it that obeys an order."""

    sandbox: Sandbox = field(repr=False)
    port: int = 0
    order: Order | None = None
    count: int = 0
    obeyed: bool = False
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1000, 10), repr=False)

    def obey(self, order: Order | None) -> None:
        self.order, self.count, self.obeyed = order, 0, False

    def change(self, call: Iterator[bytes]) -> Iterator[bytes]:
        before: list[bytes] = []
        for response in call:
            turn, self.count = self.count, self.count + 1
            if self.order and self.order.turn == turn:
                self.obeyed = True
                yield from changed(self.order, response, before, call)
                if self.order.how == "end":
                    return
            else:
                yield response
            before.append(response)

    def settings(self) -> dict[str, Any]:
        return settings(self.sandbox, **SECRETS, grpc_port=self.port, connect_timeout_seconds=5)

    def write(self) -> None:
        """Insert rows, change some and delete some."""
        cluster, first = self.sandbox.cluster, next(self.numbers)
        for name in TABLES:
            fill(cluster, name, range(first, first + 6))
            cluster.update("shop", name, {"id": b"%d" % first}, {"name": b"changed"})
            cluster.delete("shop", name, {"id": b"%d" % (first + 1)})


def changed(
    order: Order, response: bytes, before: list[bytes], call: Iterator[bytes]
) -> Iterator[bytes]:
    """Give other responses for one, or for that and the next ones."""
    chance = random.Random(order.chance)
    events = list(VStreamResponse.FromString(response).events)
    match order.how:
        case "status":
            raise Broken(CODES[order.code], DETAILS[order.details])
        case "status after":
            yield response
            raise Broken(CODES[order.code], DETAILS[order.details])
        case "end" | "drop":
            pass
        case "cut":
            # Within an event: without a whole one a response is as good as any other.
            last = events[-1].ByteSize() if events else 1
            yield response[: len(response) - chance.randint(1, max(1, last))] + b"\x0a"
        case "garbage":
            yield b"\x0a" + chance.randbytes(chance.randint(1, 50)) + b"\xff"
            yield response
        case "twice":
            yield from (response, response)
        case "earlier":
            yield from (response, chance.choice([*before, b""]))
        case "swap" | "flip" | "event":
            yield from unseen(order.how, response, events, call, chance)
        case _:
            yield from unharmed(order.how, response, events, call)


def unseen(
    how: str, response: bytes, events: list[VEvent], call: Iterator[bytes], chance: random.Random
) -> Iterator[bytes]:
    """Say something else that may be as good."""
    match how:
        case "swap":
            yield from (*itertools.islice(call, 1), response)
        case "flip":
            raw = bytearray(response or b"\0")
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            yield bytes(raw)
        case "event":
            chance.shuffle(events)
            yield written(*events[: chance.randint(0, len(events))])


def unharmed(
    how: str, response: bytes, events: list[VEvent], call: Iterator[bytes]
) -> Iterator[bytes]:
    """Say the same in another way, and what means nothing."""
    match how:
        case "late":
            time.sleep(0.5)
        case "empty":
            yield b""
        case "heartbeat":
            yield from [written(VEvent(type=VEventType.HEARTBEAT))] * 300
        case "unknown":
            yield b"\xc2\x3e\x03abc"  # a member that is none of VStreamResponse's
            yield written(VEvent(type=VEventType.VERSION)) + b"\x0a\x02\x08\x7f"  # a type of event
        case "alone":
            yield from map(written, events)
            return
        case "joined":
            for text in itertools.islice(call, 3):
                response += text
    yield response


def written(*events: VEvent) -> bytes:
    return VStreamResponse(events=events).SerializeToString()


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with ExitStack() as stack:
        found = Line(stack.enter_context(guarded()))
        found.port = stack.enter_context(grpc_proxy(found.sandbox, found.change))
        yield found


def rows(target: Target) -> Mapping[str, set[int]]:
    return {name: {row["id"] for row in target.contents(f"shop-{name}")} for name in TABLES}


def right(line: Line) -> Mapping[str, set[int]]:
    return {name: ids(line.sandbox.cluster, name) for name in TABLES}


@cases(16, slow=True)
@given(orders, st.booleans())
def test_a_run_that_is_answered_otherwise(line: Line, order: Order, following: bool) -> None:  # noqa: FBT001
    """A copy, or what follows it: right rows or an error, and no position beyond what came."""
    target, config = Target(), line.settings()
    if following:
        line.obey(None)
        run(config, target, tap_class=BriefTap)
        line.write()
    line.obey(order)
    error = outcome(lambda: run(config, target, tap_class=BriefTap))
    event(f"{order.how}: {'no error' if error is None else 'an error'}" if line.obeyed else "early")
    if order.how in HARMLESS:
        assert error is None
    if order.how in UNSEEN and line.obeyed:
        return
    if error is None:
        assert rows(target) == right(line)
    line.obey(None)
    run(config, target, tap_class=BriefTap)
    assert rows(target) == right(line)


@cases(2, slow=True)
@given(orders)
def test_a_process_that_is_answered_otherwise(
    line: Line, tmp_path_factory: pytest.TempPathFactory, order: Order
) -> None:
    """The console script: the same, by its exit code."""
    folder = tmp_path_factory.mktemp("process")
    (folder / "config.json").write_text(json.dumps({**line.settings(), "max_run_seconds": 8}))
    line.obey(order)
    target = Target()
    code, errors = ended("tap-vitess", ["--config", str(folder / "config.json")], target)
    event(f"{order.how}: exit {code}")
    if order.how in HARMLESS:
        assert code == 0, errors
    if code == 0 and order.how not in UNSEEN and "ended after max_run_seconds" not in errors:
        assert rows(target) == right(line), errors
    if not (order.how in UNSEEN and line.obeyed):
        line.obey(None)
        run(line.settings(), target, tap_class=BriefTap)
        assert rows(target) == right(line)
