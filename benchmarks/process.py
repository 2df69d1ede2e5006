"""Processes and what they cost: wall time, CPU seconds, peak memory, and what they log when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self


class BenchmarkError(Exception):
    """A process did not do what it should."""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished process.

    wall, cpu: seconds; cpu is user and system time of this process alone. rss: peak, bytes.
    lines: what it logged, each with its second since the start. out: the last line of stdout,
    where kept.
    """

    wall: float
    cpu: float
    rss: int
    lines: list[tuple[float, str]]
    out: bytes

    def second(self, text: str, *, last: bool = False) -> float:
        """Return when a line with this text was logged, the first or the last one."""
        found = [second for second, line in self.lines if text in line]
        if not found:
            raise BenchmarkError(f"nothing was logged of {text!r}")
        return found[-1 if last else 0]


def run(command: Sequence[str], *, stdin: bytes = b"", keep: bool = False) -> Run:
    """Run a command to its end; stdout goes to /dev/null unless its last line is kept.

    Raises:
        BenchmarkError: it ended with another code than 0.
    """
    start = time.perf_counter()
    lines: list[tuple[float, str]] = []
    kept: list[bytes] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if keep else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdin is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        threads = [threading.Thread(target=_note, args=(process.stderr, lines, start))]
        if process.stdout is not None:
            threads.append(threading.Thread(target=_keep, args=(process.stdout, kept)))
        for thread in threads:
            thread.start()
        process.stdin.write(stdin)
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        for thread in threads:
            thread.join()
    if process.returncode:
        log = "\n".join(line for _, line in lines[-20:])
        raise BenchmarkError(f"{' '.join(command)} ended with {process.returncode}:\n{log}")
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall, cpu, usage.ru_maxrss * 1024, lines, b"".join(kept))


def environment() -> dict[str, str]:
    """Let Python keep compiled modules, as it does where packages are installed by pip."""
    unwanted = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def _note(stderr: IO[bytes], lines: list[tuple[float, str]], start: float) -> None:
    lines.extend(
        (time.perf_counter() - start, line.decode(errors="replace").rstrip()) for line in stderr
    )


def _keep(stdout: IO[bytes], kept: list[bytes]) -> None:
    """Keep the last line only: what this process holds counts as peak memory of its children."""
    last = b""
    for last in stdout:  # noqa: B007
        pass
    kept.append(last)


class Server:
    """The replay server's process; leaving the block ends it."""

    def __init__(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
            text=True,
        )
        ports = self._answer()
        self.grpc_port: int = ports["grpc_port"]
        self.mysql_port: int = ports["mysql_port"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait()

    def tell(self, command: str, *arguments: object) -> None:
        """Have it do a command of `server.Commands`."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(json.dumps({command: arguments}) + "\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError("the replay server has ended: see its messages above")
        answer: dict[str, Any] = json.loads(line)
        return answer
