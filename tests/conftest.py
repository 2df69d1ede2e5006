"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings
from support.session import UNTIL_THE_END

# gRPC's own log lines of broken calls are what many tests are about.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# A busy machine is no failure. On top of what hypothesis sets by itself where CI is set.
settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")


def pytest_unconfigure() -> None:
    """Stop what runs in threads: Python waits for them at its end."""
    UNTIL_THE_END.close()
