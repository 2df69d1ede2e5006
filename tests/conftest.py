"""What all tests share."""

from __future__ import annotations

import os

from session import UNTIL_THE_END

# gRPC's own log lines of broken calls are what many tests are about.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def pytest_unconfigure() -> None:
    """Stop what runs in threads: Python waits for them at its end."""
    UNTIL_THE_END.close()
