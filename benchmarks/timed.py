"""A process of its own that runs a pipe of commands and tells what it cost.

It imports next to nothing: what a process holds counts as peak memory of its children. stdin has
the commands as JSON; stdout gets wall (seconds), cpu (user and system seconds of all commands and
of the processes they waited for), rss (bytes: the sum of the commands' peaks, each that of its
largest process), the exit codes, and the last line that the last command printed.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any


def main() -> None:
    """Run the pipe that stdin tells."""
    json.dump(run(json.load(sys.stdin)), sys.stdout)


def run(commands: list[list[str]]) -> dict[str, Any]:
    """Run commands, each reading what the one before it prints; logs go to stderr."""
    start = time.perf_counter()
    running: list[subprocess.Popen[bytes]] = []
    stdin: Any = subprocess.DEVNULL
    for command in commands:
        running.append(subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE))
        if running[1:]:
            stdin.close()  # or the one before would not learn that this one has ended
        stdin = running[-1].stdout
    last = b""
    for last in stdin:  # noqa: B007
        pass
    cpu, rss, codes = 0.0, 0, []
    for process in running:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        codes.append(process.returncode)
        cpu += usage.ru_utime + usage.ru_stime
        rss += usage.ru_maxrss * 1024
    wall = time.perf_counter() - start
    return {"wall": wall, "cpu": cpu, "rss": rss, "codes": codes, "out": last.decode()}


if __name__ == "__main__":
    main()
