"""Environments with packages from PyPI, for tests of released programs together with the tap.

They are kept in the temporary folder between test runs: the user that Postgres runs as may not be
able to read the project's own folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


def install(requirements: Sequence[str]) -> Path:
    """Return the bin folder of an environment with these packages; create it if needed."""
    name = "-".join(requirements).replace("=", "")
    home = Path(tempfile.gettempdir()) / f"tap-vitess-targets-{os.getuid()}"
    home.mkdir(mode=0o755, exist_ok=True)
    venv = home / name
    with (home / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        _make(venv, requirements)
    return venv / "bin"


def uv() -> str:
    """Return the path of uv: the system's, or that of the project's environment."""
    return shutil.which("uv") or str(Path(sys.executable).with_name("uv"))


def _make(venv: Path, requirements: Sequence[str]) -> None:
    if not (venv / "complete").exists():
        subprocess.run([uv(), "venv", "-q", "--clear", "-p", sys.executable, str(venv)], check=True)
        python = str(venv / "bin" / "python")
        subprocess.run(
            [uv(), "pip", "install", "-q", "--python", python, *requirements], check=True
        )
        (venv / "complete").touch()
