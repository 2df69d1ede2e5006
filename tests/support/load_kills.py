"""`tap-vitess-load` as a process that is killed: at any moment, or in the load stage.

In the load stage, dlt's working folder has packages that are to be loaded.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Stage = Literal["load", "any"]
SECONDS = 200


@dataclass
class Command:
    """A command line; `folder` is for its files, including its log.

    happened: the number of kills, by stage, and of runs that ended by themselves.
    """

    folder: Path
    address: str
    settings: dict[str, Any]
    options: tuple[str, ...] = ()
    happened: Counter[str] = field(default_factory=Counter)

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """Start it; stdout must stay empty."""
        config = self.folder / "config.json"
        config.write_text(json.dumps(self.settings))
        command = [sys.executable, "-m", "tap_vitess.load", "--config", str(config)]
        with (self.folder / "load.log").open("wb") as log:
            return subprocess.Popen(
                [*command, "--to", self.address, *self.options, *more],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "TMPDIR": str(self.folder)},
            )

    def run(self, *more: str) -> int:
        """Run it to its end; return the exit code."""
        with self.start(*more) as process:
            out, _ = process.communicate(timeout=SECONDS)
        assert out == b""
        return process.returncode

    def log(self) -> str:
        """Return the log of the last run."""
        return (self.folder / "load.log").read_text()

    def kill(self, rng: random.Random, stage: Stage, seconds: float) -> None:
        """Run it and kill it: in a stage, or within so many seconds after its first row."""
        with self.start() as process:
            began = time.monotonic()
            while process.poll() is None and time.monotonic() - began < SECONDS:
                if self._is_in(stage):
                    time.sleep(rng.uniform(0, 0.7 if stage == "load" else seconds))
                    break
                time.sleep(0.01)
            process.kill()
        code = process.wait()
        assert code in {0, -9}, self.log()
        self.happened[stage if code else "ended"] += 1

    def _is_in(self, stage: Stage) -> bool:
        if stage == "any":
            return "copy begins" in self.log() or "tap_vitess" in self.log()
        return any(self.folder.glob("tap-vitess-load-*/*/*/load/normalized/*/new_jobs/*"))
