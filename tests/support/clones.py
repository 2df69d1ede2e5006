"""Fresh clones of the project, including uncommitted files: what a newcomer would have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@example.com")


def clone(folder: Path) -> Path:
    """Make a git repository of all files that git knows here, or would after `git add --all`."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    out = subprocess.run(listed, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in out.rstrip("\0").split("\0"):
        if (ROOT / name).exists():  # deleted, and not committed yet
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, *AUTHOR, "commit", "--quiet", "--message", "all")
    return folder


def git(folder: Path, *arguments: str) -> str:
    """Run git there, without the user's and the system's settings."""
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=ours(), check=True)
    return done.stdout


def ours(**more: str) -> dict[str, str]:
    """Return an environment without variables that point git, uv and Python to another project.

    It has no terminal's width either: pytest imports readline, which sets COLUMNS for the processes
    that it starts, the workers of pytest-xdist.
    """
    led = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV"}
    left = {*led, "COLUMNS", "LINES"}
    kept = {name: value for name, value in os.environ.items() if name not in left}
    return {**kept, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **more}


def with_uv(**more: str) -> dict[str, str]:
    """Return such an environment where `make` finds a uv, and need not install its own."""
    path = f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}"
    return ours(PATH=path, **more)


def run(
    command: Sequence[str | Path],
    folder: Path,
    env: Mapping[str, str] | None = None,
    seconds: float = 240,
) -> subprocess.CompletedProcess[str]:
    """Run a program there to its end; keep its output."""
    return subprocess.run(
        command,
        cwd=folder,
        env=env or ours(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
