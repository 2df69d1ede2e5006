"""Errors keep what they know when their sentence is mended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tap_vitess import errors
from tap_vitess.errors import RetriableError, VitessError
from tap_vitess.vtgate.retry import RetryOptions, retrying


def kinds(of: type[VitessError] = VitessError) -> Iterator[type[VitessError]]:
    """List an error and all that are of its kind."""
    yield of
    for kind in of.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from kinds(kind)


@pytest.mark.parametrize("kind", [*kinds()])
def test_a_reworded_error_is_the_same_one(kind: type[VitessError]) -> None:
    """Of the same kind, with its table and shard; the message alone is another."""
    error = kind("said", table="orders", shard="-80").reworded("said; and what SQL knows of it")
    assert type(error) is kind
    assert str(error) == "said; and what SQL knows of it"
    assert (error.table, error.shard) == ("orders", "-80")


def test_an_error_may_be_of_no_table() -> None:
    error = RetriableError("said")
    assert (error.table, error.shard) == (None, None)


@pytest.mark.parametrize(
    ("said", "where", "rest"),
    [
        ("shop: it is gone", "shop", "it is gone"),
        ("keyspace shop: it is gone", "shop", "it is gone"),
        ("shop: it is gone", "the position of shop", "it is gone"),
        ("the copy of shop.t: it is cut", "the copy of shop.t", "it is cut"),
        ("shop2: it is gone", "shop", "shop2: it is gone"),
        ("it is gone", "shop", "it is gone"),
    ],
)
def test_a_line_names_a_place_once(said: str, where: str, rest: str) -> None:
    assert RetriableError(said).within(where) == rest


def test_what_is_tried_again_names_its_keyspace_once(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        if len(asked) == 1:
            raise RetriableError("customer: VTGate reported the position of no shard")
        return 7

    retry = RetryOptions(budget=5, longest_wait=0.01)
    assert retrying("the position of customer", ask, retry) == 7
    told = "the position of customer: VTGate reported the position of no shard; trying"
    assert told in caplog.text


def test_errors_of_ours_are_for_people() -> None:
    """Every class has a sentence on what it means."""
    assert all(kind.__doc__ for kind in kinds())
