"""docs/, meltano.yml and the Hub's definition say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tap_vitess.airbyte.catalog import OWN_PROPERTIES
from tap_vitess.config import SETTINGS
from tap_vitess.run.state import bookmark_key
from tap_vitess.singer.columns import AUTOMATIC
from tap_vitess.singer.tap import TapVitess

ROOT = Path(__file__).parent.parent


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_generated_parts_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate-docs"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


HUB = ROOT / "meltano-hub" / "extractors" / "tap-vitess" / "tap-vitess.yml"
OF_THE_SDK = {
    "batch_config",
    "stream_maps",
    "stream_map_config",
    "flattening_enabled",
    "flattening_max_depth",
    "flattening_max_key_length",
    "flattening_separator",
}


def test_meltano_knows_the_capabilities_and_settings() -> None:
    plugin = yaml.safe_load((ROOT / "meltano.yml").read_text())["plugins"]["extractors"][0]
    for found in (plugin, yaml.safe_load(HUB.read_text())):
        settings = {setting["name"]: setting for setting in found["settings"]}
        assert found["capabilities"] == [c.value for c in TapVitess.capabilities]
        assert settings.keys() == SETTINGS.keys() | OF_THE_SDK
        assert {n for n, s in settings.items() if s.get("sensitive")} == {
            n for n, s in SETTINGS.items() if s.get("secret")
        }
    assert plugin["config"].keys() <= SETTINGS.keys()


def test_the_pages_have_every_setting_and_own_column() -> None:
    settings, columns = page("settings.md"), page("singer.md")
    assert [name for name in SETTINGS if f"| `{name}` |" not in settings] == []
    assert [name for name in sorted(AUTOMATIC) if f"`{name}`" not in columns] == []


def test_the_page_names_the_bookmark() -> None:
    assert f"`{bookmark_key('shop')}`" in page("how-it-works.md")


def test_airbyte_image_metadata_and_package_agree() -> None:
    metadata = yaml.safe_load((ROOT / "metadata.yaml").read_text())["data"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    labels = dict(re.findall(r'io\.airbyte\.(\w+)="([^"]+)"', dockerfile))
    assert metadata["dockerImageTag"] == labels["version"] == project["version"]
    assert metadata["dockerRepository"] == labels["name"]
    [entry] = re.findall(r'ENTRYPOINT \["(.+)"\]', dockerfile)
    assert f'AIRBYTE_ENTRYPOINT="{entry}"' in dockerfile
    assert {entry, "tap-vitess"} <= project["scripts"].keys()


def test_the_airbyte_page_tells_of_every_own_column() -> None:
    assert [name for name in OWN_PROPERTIES if f"`{name}`" not in page("airbyte.md")] == []
