"""Where the real Vitess of these tests comes from.

- An address, when TAP_VITESS_TEST_HOST is set. Further: TAP_VITESS_TEST_GRPC_PORT,
  TAP_VITESS_TEST_MYSQL_PORT, and TAP_VITESS_TEST_KEYSPACE, which names a sharded keyspace in which
  the user root may create tables and alter the VSchema (vtgate's vschema_ddl_authorized_users).
- Else a small cluster of our own, on free ports and in a temporary folder, when the Vitess
  binaries are on PATH, and VTROOT and VT_MYSQL_ROOT are set (see `local-cluster`).
- Else every test here is skipped, and the summary says so.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.launcher import HOST, Cluster, Version, missing, version_in
from cluster.runs import Pipeline
from cluster.source import Address, Source

ADDRESS = "TAP_VITESS_TEST_HOST"
SHARDED = "tapcluster"
UNSHARDED = "tapmain"
HERE = Path(__file__).parent
_numbers = itertools.count()


def _why_not() -> str:
    lack = missing()
    return f"{lack} and no {ADDRESS}" if lack and not os.environ.get(ADDRESS) else ""


def _is_here(item: pytest.Item) -> bool:
    return HERE in item.path.parents


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all of this folder's tests when there is no Vitess."""
    if why_not := _why_not():
        for item in filter(_is_here, items):
            item.add_marker(pytest.mark.skip(reason=why_not))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in one line what was not tested."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "cluster" in r.keywords]
    if skipped and (why_not := _why_not()):
        terminalreporter.write_line(
            f"tests/cluster: {len(skipped)} tests skipped: {why_not}", yellow=True, bold=True
        )


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster | None]:
    if os.environ.get(ADDRESS):
        yield None
        return
    cluster = Cluster()
    with ExitStack() as stack:
        stack.callback(cluster.stop)
        cluster.start()
        cluster.keyspace(SHARDED, "-80", "80-")
        cluster.keyspace(UNSHARDED, "0")
        yield cluster


@pytest.fixture
def own_cluster(_cluster: Cluster | None) -> Cluster:
    """Return a cluster whose processes and shards a test may change."""
    if _cluster is None:
        pytest.skip(f"needs a cluster of its own; {ADDRESS} is set")
    return _cluster


@pytest.fixture(scope="session")
def address(_cluster: Cluster | None) -> Address:
    """Return where the Vitess is, and the sharded keyspace."""
    if _cluster is None:
        return Address.from_environment()
    return Address(HOST, _cluster.grpc_port, _cluster.mysql_port, SHARDED)


@pytest.fixture
def prefix() -> str:
    """Return what the names of a test's tables begin with."""
    return f"t{os.getpid()}_{next(_numbers)}_"


@pytest.fixture
def keyspace(address: Address) -> str:
    """Name the keyspace of the test; some files have one of their own."""
    return address.keyspace


@pytest.fixture
def source(keyspace: str, address: Address, prefix: str) -> Iterator[Source]:
    """Return a connection whose tables are dropped after the test."""
    with closing(Source(replace(address, keyspace=keyspace), prefix)) as opened:
        yield opened


@pytest.fixture
def vitess_version(source: Source) -> Version:
    """Return the version of VTGate: what it decides about is expected by it."""
    (row,) = source.query("select @@version_comment as told")
    return version_in(row["told"])


@pytest.fixture
def mysql_version(own_cluster: Cluster, source: Source) -> Version:
    """Return the version of the shards' MySQL."""
    return own_cluster.mysql_version(own_cluster.tablet(source.address.keyspace, "-80"))


@pytest.fixture
def pipeline(source: Source, tmp_path: Path) -> Callable[..., Pipeline]:
    """Return what makes a pipeline of some settings over the test's tables."""

    def make(**settings: Any) -> Pipeline:
        return Pipeline(tmp_path / "pipeline", source, **settings)

    return make


@pytest.fixture
def seed() -> int:
    """Return a seed, from TAP_VITESS_TEST_SEED or random; pytest shows it when a test fails."""
    chosen = int(os.environ.get("TAP_VITESS_TEST_SEED") or random.randrange(10**6))
    print(f"TAP_VITESS_TEST_SEED={chosen}")
    return chosen


@pytest.fixture
def rng(seed: int) -> random.Random:
    """Return a generator of the test's seed."""
    return random.Random(seed)
