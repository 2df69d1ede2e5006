"""The tap's settings as dlt's configuration: `[sources.vitess]`, or variables SOURCES__VITESS__....

Their names, types and defaults are those of `Config`; what is given in code comes first, then dlt's
environment variables, `secrets.toml` and `config.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, make_dataclass
from typing import Any

from dlt.common.configuration import configspec, resolve_configuration
from dlt.common.configuration.specs import BaseConfiguration
from dlt.common.typing import TSecretStrValue

from tap_vitess.config import SETTINGS, Config
from tap_vitess.errors import ConfigError
from tap_vitess.settings import checked
from tap_vitess.values.types import ValueOptions

# What the tap writes as JSON or keeps by itself, and a load does not.
WITHOUT_MEANING = (
    *("batch_keep_hours", "checkpoint_seconds"),
    *("mirror_keyspace", "mirror_table", "mirror_name", "start_from_mirror"),
    *("unsigned_bigint_as", "tinyint1_as", "bit1_as", "decimal_as", "binary_as", "json_as"),
    "geometry_as",
)
_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list[str],
    "object": dict[str, str],
}


def _type(schema: Mapping[str, Any]) -> Any:
    if schema.get("secret") and schema["type"] == "string":
        return TSecretStrValue | None
    return _TYPES[schema["type"]] | None


VitessSettings: Any = configspec(
    make_dataclass(
        "VitessSettings",
        [
            (name, _type(schema), field(default=None))
            for name, schema in SETTINGS.items()
            if name not in WITHOUT_MEANING
        ],
        bases=(BaseConfiguration,),
    )
)


def settings_of(given: Mapping[str, Any]) -> Config:
    """Return the settings: those given, and where there is none, those of dlt's configuration.

    Raises:
        ConfigError: a setting is wrong, or is none of a load.
    """
    if strange := sorted(given.keys() - SETTINGS.keys()):
        raise ConfigError(f"there is no setting {', '.join(strange)}")
    if idle := sorted(given.keys() & {*WITHOUT_MEANING}):
        raise ConfigError(f"settings without a meaning for a load: {', '.join(idle)}")
    found = resolve_configuration(
        VitessSettings(),
        sections=("sources", "vitess"),
        explicit_value={name: value for name, value in given.items() if value is not None},
    )
    values = {name: getattr(found, name) for name in SETTINGS if name not in WITHOUT_MEANING}
    return checked({name: value for name, value in values.items() if value is not None})


def without_meaning(config: Config) -> list[str]:
    """Name the settings that are set, and that mean nothing here."""
    plain = checked({"host": config.host})
    own = {f.name for f in fields(ValueOptions)}
    return [
        name
        for name in WITHOUT_MEANING
        if (
            getattr(config.values, name) != getattr(plain.values, name)
            if name in own
            else getattr(config, name) != getattr(plain, name)
        )
    ]
