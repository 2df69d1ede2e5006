"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from support.sessions import Shop
from support.shops import UNTIL_THE_END, served, three_tables
from support.targets import postgres

from tap_vitess.sandbox.server import Sandbox

# gRPC's own log lines of broken calls are what many tests are about.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# A busy machine is no failure. On top of what hypothesis sets by itself where CI is set.
settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")


def pytest_unconfigure() -> None:
    """Stop what runs in threads: Python waits for them at its end."""
    UNTIL_THE_END.close()


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Serve three tables, or what the nearest `served(...)` says."""
    wanted = request.node.get_closest_marker("sandbox") or served(three_tables).mark
    [start] = wanted.args
    with start() as sandbox:
        yield sandbox
        sandbox.faults.clear()  # what is mute speaks again, so that its threads end


@pytest.fixture
def shop() -> Shop:
    """Make a cluster like the recorded one."""
    return Shop()


@pytest.fixture(scope="session")
def postgres_address() -> Iterator[str]:
    """Run a Postgres; its tables are those of all tests that ask for it."""
    with postgres() as address:
        yield address
