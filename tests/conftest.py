"""What all tests share."""

from __future__ import annotations

import os

# gRPC's own log lines of broken calls are what many tests are about.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
