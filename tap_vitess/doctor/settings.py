"""What the tap is given, read as the tap reads it: settings, catalog, state.

The settings of several files are merged, the last one wins; `ENV` stands for the environment
variables TAP_VITESS_<SETTING>. Unlike the tap's, a file `.env` is not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tap_vitess.config import SETTINGS, SETTINGS_SCHEMA, Config
from tap_vitess.errors import CatalogError, ConfigError, StateError, VitessError
from tap_vitess.keys import Key
from tap_vitess.state import bookmarks_of

ENVIRONMENT = "ENV"
_TRUE = {"true", "1", "yes", "on"}


def read_config(sources: Sequence[str], environment: Mapping[str, str]) -> Config:
    """Read the settings.

    Raises:
        ConfigError: a file cannot be read, or a setting is wrong. Secrets are not quoted.
    """
    return checked(_settings(sources, environment))


def checked(settings: Mapping[str, Any]) -> Config:
    """Make the Config of settings that may be wrong.

    Raises:
        ConfigError: a setting is wrong. Secrets are not quoted.
    """
    if problem := next(_problems(settings), None):
        raise ConfigError(problem)
    return Config.from_settings(settings)


def _settings(sources: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for source in sources:
        if source == ENVIRONMENT:
            settings.update(_of_environment(environment))
        else:
            settings.update(read_settings(source))
    return settings


def read_settings(path: str) -> dict[str, Any]:
    """Read a file of settings, as they are.

    Raises:
        ConfigError: it cannot be read, or is no object.
    """
    found = read_json(path, ConfigError)
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: an object of settings is expected")
    return found


def read_catalog(path: str) -> dict[str, dict[str, Key]]:
    """Read the selected tables of a catalog and their keys, by keyspace.

    Raises:
        CatalogError: it cannot be read, or is no catalog of this tap.
    """
    found = read_json(path, CatalogError)
    tables: dict[str, dict[str, Key]] = {}
    try:
        for stream in found["streams"]:
            name = stream["tap_stream_id"]
            root = next(m["metadata"] for m in stream["metadata"] if not m["breadcrumb"])
            if root.get("selected", stream.get("selected")) is not False:
                keyspace = root["schema-name"]
                table = name.removeprefix(f"{keyspace}-")
                key = tuple(stream.get("key_properties") or ())
                tables.setdefault(keyspace, {})[table] = key
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise CatalogError(f"{path} is no catalog of tap-vitess: discover again") from error
    return tables


def read_state(path: str) -> dict[str, Any]:
    """Read the bookmarks of a state.

    Raises:
        StateError: it cannot be read, or is no Singer state.
    """
    return bookmarks_of(read_json(path, StateError))


def read_json(path: str, error: type[VitessError]) -> Any:
    """Read a JSON file; what is wrong with it is an `error`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as cause:
        raise error(f"{path} cannot be read ({cause.strerror})") from cause
    except ValueError as cause:
        raise error(f"{path} is no JSON ({cause})") from cause


def _of_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    names = {name: f"TAP_VITESS_{name.upper()}" for name in SETTINGS}
    return {
        name: _parse(name, environment[variable])
        for name, variable in names.items()
        if variable in environment
    }


def _parse(name: str, text: str) -> Any:
    kind = SETTINGS[name]["type"]
    try:
        match kind:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return text.lower() in _TRUE
            case "array" if not text.lstrip().startswith("["):
                return text.split(",")
            case "array" | "object":
                return json.loads(text)
    except ValueError:
        # The cause would quote the value.
        raise ConfigError(f"setting {name}: the environment variable is no {kind}") from None
    return text


def _problems(settings: Mapping[str, Any]) -> Iterator[str]:
    for error in Draft202012Validator(SETTINGS_SCHEMA).iter_errors(settings):
        name = str(error.absolute_path[0]) if error.absolute_path else None
        if name is None:
            yield f"settings: {error.message}"
        elif SETTINGS[name].get("secret"):
            yield f"setting {name}: {SETTINGS[name]['type']} of text is expected"
        else:
            yield f"setting {name}: {error.message}"
