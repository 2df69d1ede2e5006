"""The tap's command line: reads settings, catalog and state so that errors name the files.

The SDK would end with a traceback if a file is a folder, not UTF-8 or nested too deep, and does not
name a file that is not JSON. Numbers with a point in a catalog or a state stay Decimal, as the SDK
reads them, because they are written again.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, Any

import click
from dotenv import load_dotenv
from singer_sdk import Tap
from singer_sdk.exceptions import (
    ConfigValidationError,
    MapExpressionError,
    StreamMapConfigError,
)

from tap_vitess.config import SETTINGS
from tap_vitess.errors import CatalogError, ConfigError, StateError, VitessError
from tap_vitess.settings import (
    ENVIRONMENT,
    check,
    of_environment,
    parse_json,
    put_right,
    read_settings,
    short,
)
from tap_vitess.stdout import written

_HELP = "Copy tables out of Vitess and follow their changes, as a Singer tap."
_OPTIONS = {
    "config": "The settings: a file, or ENV for the variables TAP_VITESS_...; may be repeated.",
    "discover": "Print the catalog and exit.",
    "catalog": "The catalog with what is selected; without it, all tables are read.",
    "state": "The last state that the target printed; without it, all tables are copied.",
}
# \b keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  tap-vitess init                                          write a config
  tap-vitess-doctor --config config.json                   see whether it fits
  tap-vitess --config config.json --discover > catalog.json
  tap-vitess --config config.json --catalog catalog.json | target-jsonl > states
  tail -1 states > state.json
  tap-vitess --config config.json --catalog catalog.json --state state.json | ...
  TAP_VITESS_HOST=vtgate tap-vitess --config ENV | ...     settings as variables
"""


@dataclass(frozen=True, slots=True)
class Sources:
    """The values of --config, under the names that the SDK expects."""

    config: dict[str, Any]
    parse_env: bool


class CommandLine(Tap):
    """A tap that reads its files and environment without the SDK."""

    def __init__(self, **kwargs: Any) -> None:
        """See the SDK; settings that are given as a dict are corrected and checked.

        Raises:
            ConfigError: settings are wrong, or do not exist.
        """
        if isinstance(config := kwargs.get("config"), dict):
            if kwargs.pop("parse_env_config", False):
                load_dotenv(override=True)
                config = {**config, **of_environment(os.environ, self.schemas())}
            kwargs["config"] = self._looked_at(config, wanted=kwargs.get("validate_config", True))
        with told_of_maps():
            super().__init__(**kwargs)

    def _looked_at(self, config: Mapping[str, Any], *, wanted: bool) -> dict[str, Any]:
        """Return corrected settings; the SDK checks its own, of which null ones are dropped."""
        schemas = self.schemas()
        own = schemas.keys() - SETTINGS.keys()
        settings = put_right(config, schemas)
        settings = {n: v for n, v in settings.items() if v is not None or n not in own}
        if wanted:
            check(settings, own)
        return settings

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """Return the SDK's command, with examples and our words for --config."""
        made = super().get_singer_command()
        made.help, made.epilog = _HELP, _EXAMPLES
        for option in made.params:
            if isinstance(option, click.Option) and option.name in _OPTIONS:
                option.help = _OPTIONS[option.name]
        return made

    @classmethod
    def schemas(cls) -> Mapping[str, Mapping[str, Any]]:
        """Return the schemas of all settings, with those that the SDK adds."""
        schema = copy.deepcopy(cls.config_jsonschema)
        cls.append_builtin_config(schema)
        found: Mapping[str, Mapping[str, Any]] = schema["properties"]
        return found

    @classmethod
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:  # noqa: ARG003
        """Read what --config names.

        Raises:
            ConfigError: a file cannot be read, or holds no settings.
        """
        settings: dict[str, Any] = {}
        for source in value:
            settings |= {} if source == ENVIRONMENT else read_settings(source)
        return Sources(settings, ENVIRONMENT in value)

    def run_discovery(self) -> str:
        """Write the catalog to stdout, and return it.

        Raises:
            TargetClosedError: it cannot be written there.
        """
        with written():
            return super().run_discovery()

    @classmethod
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: Sources | None = None,
        state: IO[str] | None = None,
        catalog: IO[str] | None = None,
    ) -> None:
        """Run as the options say.

        Raises:
            VitessError: a file is not of its kind, or the run could not be finished.
        """
        with written():
            super(Tap, cls).invoke(about=about, about_format=about_format)
        cls.print_version(print_fn=cls.logger.info)
        tap = cls(
            config=config.config if config else {},
            state=_document(state, StateError),
            catalog=_document(catalog, CatalogError),
            parse_env_config=config is not None and config.parse_env,
        )
        tap.sync_all()


def _document(file: IO[str] | None, error: type[VitessError]) -> Any:
    """Return a file's object; a file with null is an error, not as if there were no file."""
    if file is None:
        return None
    found = parse_json(file.name, file.buffer.read, error, Decimal)  # type: ignore[attr-defined]
    if not isinstance(found, dict):
        raise error(f"{file.name}: an object is expected, not {type(found).__name__}")
    return found


@contextmanager
def told_of_maps() -> Iterator[None]:
    """Report settings that the SDK refuses; its errors quote the settings, but no rows.

    Raises:
        ConfigError: it refuses a stream map, or another setting of its own.
    """
    try:
        yield
    except (StreamMapConfigError, MapExpressionError, NotImplementedError) as error:
        raise ConfigError(f"setting stream_maps: {error}") from error
    except ConfigValidationError as error:
        raise ConfigError(f"settings: {'; '.join(map(short, error.errors))}") from error
