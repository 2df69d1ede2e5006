"""README.md and meltano.yml say what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tap_vitess.config import SETTINGS
from tap_vitess.state import bookmark_key
from tap_vitess.streams import AUTOMATIC
from tap_vitess.tap import TapVitess

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_generated_parts_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate-docs"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_meltano_knows_the_capabilities_and_settings() -> None:
    yaml = pytest.importorskip("yaml")
    plugin = yaml.safe_load((ROOT / "meltano.yml").read_text())["plugins"]["extractors"][0]
    settings = {setting["name"]: setting for setting in plugin["settings"]}
    assert plugin["capabilities"] == [c.value for c in TapVitess.capabilities]
    assert settings.keys() == SETTINGS.keys()
    assert {n for n, s in settings.items() if s.get("sensitive")} == {
        n for n, s in SETTINGS.items() if s.get("secret")
    }
    assert plugin["config"].keys() <= SETTINGS.keys()


def test_the_readme_tells_of_every_setting(readme: str) -> None:
    assert [name for name in SETTINGS if f"| `{name}` |" not in readme] == []


def test_the_readme_tells_of_every_own_column(readme: str) -> None:
    assert [name for name in sorted(AUTOMATIC) if f"`{name}`" not in readme] == []


def test_the_readme_names_the_bookmark(readme: str) -> None:
    assert f"`{bookmark_key('shop')}`" in readme
