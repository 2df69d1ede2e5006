"""Processes of the programs in the examples, and where to find these programs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.environments import install


def environment(target: Sequence[str], **more: object) -> dict[str, str]:
    """Return an environment where the examples' names for the tap and a target are found."""
    bins = (Path(sys.executable).parent, install(target))
    path = os.pathsep.join([*map(str, bins), os.environ["PATH"]])
    return {**os.environ, "PATH": path, **{name: str(value) for name, value in more.items()}}


class Processes:
    """The processes that a test has started; none outlives the test, however that ends."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def begin(self, command: Sequence[object], **options: Any) -> subprocess.Popen[str]:
        """Start a process in its own process group."""
        process = subprocess.Popen(
            list(map(str, command)), text=True, start_new_session=True, **options
        )
        self._started.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
