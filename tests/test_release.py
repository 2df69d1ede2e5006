"""`make release-check` passes what is right and refuses what is not; so does `--tag`.

The script makes the environments, installs, starts and copies; these tests run it, once on the
project as it is, and on copies that are broken in the ways that a release has been broken.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.clones import ROOT, clone, git, ours, run, with_uv

pytestmark = pytest.mark.environments

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("project"))


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Path:
    """Return a copy that may be broken."""
    ignored = shutil.ignore_patterns("dist", "captures", "cluster")
    return Path(shutil.copytree(project, tmp_path / "project", ignore=ignored))


def check(folder: Path, *arguments: str) -> tuple[int, str]:
    done = run([sys.executable, folder / "scripts" / "check-release", *arguments], folder)
    return done.returncode, done.stdout


def edit(path: Path, pattern: str, new: str) -> None:
    text, number = re.subn(pattern, new, path.read_text(), flags=re.MULTILINE)
    assert number == 1, f"{pattern} is {number} times in {path.name}"
    path.write_text(text)


def test_what_is_here_can_be_released(project: Path) -> None:
    """The files are in dist/, and both sets of dependencies have been tried."""
    code, out = check(project)
    assert code == 0, out
    assert "with the newest dependencies" in out
    assert "with the oldest dependencies" in out
    built = {path.name for path in (project / "dist").iterdir()} - {".gitignore"}
    assert built == {f"tap_vitess-{VERSION}.tar.gz", f"tap_vitess-{VERSION}-py3-none-any.whl"}
    assert git(project, "status", "--short") == "", "it leaves nothing else behind"


def test_the_image_is_built_of_all_that_is_needed(
    project: Path, copied: Path, tmp_path: Path
) -> None:
    """What .dockerignore lets through gives the wheel that the whole project gives."""
    context = tmp_path / "context"
    context.mkdir()
    [everything, *let_through] = (copied / ".dockerignore").read_text().split()
    assert everything == "*"
    for name in let_through:
        (copied / name.removeprefix("!")).rename(context / name.removeprefix("!"))
    whole = wheel(project, tmp_path / "whole")
    assert "tap_vitess/py.typed" in {name for name, _ in whole}
    assert wheel(context, tmp_path / "built") == whole


def test_the_dockerfiles_commands_run(copied: Path, tmp_path: Path) -> None:
    """Each RUN in a clean environment, without Docker: no user is made, folders are others.

    What ENTRYPOINT names then answers. Python is this one, not the image's.
    """
    text = (copied / "Dockerfile").read_text().replace("\\\n", "")
    commands = re.findall(r"^RUN (.*)", text, re.MULTILINE)
    assert len(commands) == len(re.findall(r"^FROM ", text, re.MULTILINE)), "one a stage"
    made = tmp_path / "made"
    made.mkdir()
    (made / "useradd").write_text(f'#!/bin/sh\necho "$@" > {made}/user\n')
    (made / "useradd").chmod(0o755)
    for number, command in enumerate(commands):
        venv = tmp_path / f"stage{number}"
        seeded = run(["uv", "venv", "--quiet", "--seed", venv], tmp_path, with_uv())
        assert seeded.returncode == 0, seeded.stdout
        typed = command.replace("/wheels", str(tmp_path / "wheels")).replace("/src", str(copied))
        path = f"{venv / 'bin'}:{made}:/usr/bin:/bin"
        done = run(["sh", "-euc", typed], tmp_path, ours(PATH=path, PIP_NO_COMPILE="1"))
        assert done.returncode == 0, done.stdout
    [entry] = re.findall(r'^ENTRYPOINT \["(.+)"\]', text, re.MULTILINE)
    done = run([venv / "bin" / entry, "spec"], tmp_path, ours(PATH="/usr/bin:/bin"))
    assert '"type":"SPEC"' in done.stdout
    user = re.search(r"^USER (.+)", text, re.MULTILINE)
    assert user is not None
    assert (made / "user").read_text() == f"--uid {user[1]} --create-home airbyte\n"
    assert not (tmp_path / "wheels").exists()


def wheel(source: Path, out: Path) -> set[tuple[str, int]]:
    """Build a wheel; return its files' names and checksums."""
    done = run(["uv", "build", "--wheel", "--out-dir", out, source], source, with_uv())
    assert done.returncode == 0, done.stdout
    [built] = out.glob("*.whl")
    return {(entry.filename, entry.CRC) for entry in zipfile.ZipFile(built).infolist()}


def _untyped(project: Path) -> None:
    git(project, "rm", "--quiet", "tap_vitess/py.typed")


def _incomplete(project: Path) -> None:
    edit(
        project / "pyproject.toml", r'^packages = \["tap_vitess"\]', r'\g<0>\nexclude = ["*.proto"]'
    )


def _stray(project: Path) -> None:
    (project / "tap_vitess" / "notes.py").touch()


def _sdist_without_sandbox(project: Path) -> None:
    edit(project / "pyproject.toml", r"^include = .*", r'\g<0>\nexclude = ["tap_vitess/sandbox"]')


def _unlicensed(project: Path) -> None:
    edit(project / "pyproject.toml", r"^license-files = .*", "license-files = []")


def _undescribed(project: Path) -> None:
    (project / "README.md").write_text("")


def _forgotten_dependency(project: Path) -> None:
    edit(project / "pyproject.toml", r'^ +"grpcio>=.*', "")


def _floor_too_low(project: Path) -> None:
    """An older protobuf refuses code that a newer one has generated."""
    edit(project / "pyproject.toml", r'"protobuf>=[^"]+"', '"protobuf>=5.29.0,<8"')


def _new_script(project: Path) -> None:
    edit(
        project / "pyproject.toml",
        r"^tap-vitess = .*",
        r'\g<0>\ntap-new = "tap_vitess.singer.tap:main"',
    )


def _other_version(project: Path) -> None:
    edit(project / "metadata.yaml", r"dockerImageTag: .*", "dockerImageTag: 9.9.9")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (_untyped, "no tap_vitess/py.typed"),
        (_incomplete, "the wheel lacks tap_vitess/_proto/binlogdata.proto, "),
        (_stray, "git does not know: tap_vitess/notes.py"),
        (_sdist_without_sandbox, "different in .*tap_vitess/sandbox/__init__.py"),
        (_unlicensed, "lacks the licence"),
        (_undescribed, "`long_description` missing"),
        (_forgotten_dependency, "No module named 'grpc'"),
        (_floor_too_low, "(?i)gencode"),
        (_new_script, "nothing here starts tap-new"),
        (_other_version, f"metadata.yaml has version 9.9.9, pyproject.toml has {VERSION}"),
    ],
)
def test_what_is_broken_is_refused(
    copied: Path, break_it: Callable[[Path], None], words: str
) -> None:
    break_it(copied)
    code, out = check(copied)
    assert code == 1, out
    assert re.search(words, out), out


@pytest.mark.parametrize(
    ("heading", "tag", "words"),
    [
        (f"{VERSION} - unreleased", f"v{VERSION}", f"CHANGELOG.md has no date for {VERSION}"),
        (f"{VERSION} - 2026-01-31", "v9.9.9", "the tag is v9.9.9"),
        ("9.9.9 - 2026-01-31", f"v{VERSION}", "CHANGELOG.md has version 9.9.9"),
    ],
)
def test_a_tag_of_something_else_is_refused(
    copied: Path, heading: str, tag: str, words: str
) -> None:
    edit(copied / "CHANGELOG.md", rf"^## {re.escape(VERSION)} .*", f"## {heading}")
    code, out = check(copied, "--tag", tag)
    assert code == 1, out
    assert words in out
