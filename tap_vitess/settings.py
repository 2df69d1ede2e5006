"""Reads, corrects and checks settings from files, the environment or a front end.

Settings of several files are merged, and the last one wins; `ENV` stands for the environment
variables. A setting that does not exist is an error, because a typo may read more than was meant.
Settings of the SDK, which may be in the same files, are ignored. What surprised us: the SDK reads
numbers with a point as Decimal, Meltano passes a number from the environment on as text, and
Python's JSON parser accepts `Infinity`, lone surrogates and numbers of any length.

No message quotes a secret, or more of a value than fits on a line.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tap_vitess.config import SETTINGS, SETTINGS_SCHEMA, Config
from tap_vitess.errors import ConfigError, VitessError

ENVIRONMENT = "ENV"
# The settings that the SDK adds to every tap; a test compares them with the SDK's schemas.
OF_THE_SDK = frozenset(
    {
        *("stream_maps", "stream_map_config", "faker_config", "batch_config"),
        *("flattening_enabled", "flattening_max_depth", "flattening_max_key_length"),
        "flattening_separator",
    }
)
# Other taps' and MySQL sources' names -> ours.
_ELSEWHERE: Mapping[str, str] = {
    "hostname": "host",
    "port": "grpc_port and mysql_port",
    "username": "user",
    **dict.fromkeys(("database", "dbname", "filter_dbs", "filter_schemas", "schema"), "keyspaces"),
    **dict.fromkeys(("schemas", "keyspace"), "keyspaces"),
    **dict.fromkeys(("filter_tables", "table"), "tables"),
    **dict.fromkeys(("ssl", "use_ssl", "ssl_mode", "use_tls"), "tls"),
    **dict.fromkeys(("ssl_ca", "ssl_ca_file", "ca_certificate"), "tls_ca_file"),
    **dict.fromkeys(("ssl_cert", "client_certificate"), "tls_cert_file"),
    **dict.fromkeys(("ssl_key", "client_key"), "tls_key_file"),
    "replication_method": "the catalog's metadata replication-method",
}
# Flags of VStream that would break what a run promises.
_REFUSED: Mapping[str, str] = {
    "stop_on_reshard": "a run follows a reshard, and Vitess 22.0.2 and later end no call with it",
    "tablet_order": "a run reads one type of tablets, so types need no order",
    "stream_keyspace_heartbeats": "each heartbeat would be a change of every shard",
    "include_reshard_journal_events": "a run knows the shards by its positions",
    "tables_to_copy": "each table is copied by its own call, which can be resumed",
    "exclude_keyspace_from_table_name": "only Vitess 23 and later have it, and it changes nothing",
    "transaction_chunk_size": "a transaction ends at its COMMIT, however it comes",
    "heartbeat_interval": "a run needs a heartbeat each second to notice a stream that stands "
    "still",
}
_TRUE = {"true", "1", "yes", "on"}
_NUMBER = re.compile(r"\s*[+-]?\d{1,30}(\.\d{0,30})?([eE][+-]?\d{1,3})?\s*")
_DEEPEST = 50
_LONGEST = 200  # characters of a value in an error
_DIGITS = 30

Schemas = Mapping[str, Mapping[str, Any]]


def read_config(sources: Sequence[str], environment: Mapping[str, str]) -> Config:
    """Read the settings.

    Raises:
        ConfigError: a file cannot be read, or a setting is wrong. Secrets are not quoted.
    """
    return checked(read_sources(sources, environment))


def read_sources(sources: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Read files of settings, and the environment if a source is ENV; the last one wins.

    Raises:
        ConfigError: a file cannot be read, or a variable is not of its setting's type.
    """
    settings: dict[str, Any] = {}
    for source in sources:
        is_file = source != ENVIRONMENT
        settings |= read_settings(source) if is_file else of_environment(environment)
    return settings


def checked(settings: Mapping[str, Any]) -> Config:
    """Make a Config from settings that may be wrong, and may include the SDK's.

    Raises:
        ConfigError: settings are wrong. Secrets are not quoted.
    """
    right = put_right(settings)
    check(right)
    return Config.from_settings(right)


def check(settings: Mapping[str, Any], others: Collection[str] = OF_THE_SDK) -> None:
    """Check settings that `put_right` has corrected; the values of `others` are not checked.

    Raises:
        ConfigError: some are wrong, or do not exist. Secrets are not quoted.
    """
    problems = list(_unreadable(settings)) or [
        *_unknown(settings.keys() - others),
        *_unfit(settings),
    ]
    if problems:
        raise ConfigError("; ".join(problems))


def put_right(settings: Mapping[str, Any], schemas: Schemas = SETTINGS) -> dict[str, Any]:
    """Return settings with numbers as int or float, whatever parser read them."""
    return {name: _right(value, _kind(schemas.get(name, {}))) for name, value in settings.items()}


def _kind(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("type", "")
    return kinds if isinstance(kinds, str) else next((k for k in kinds if k != "null"), "")


def _right(value: Any, kind: str) -> Any:
    if kind not in {"integer", "number"}:
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = Decimal(value.strip())
    if isinstance(value, Decimal):
        whole = value.is_finite() and value.adjusted() <= _DIGITS and value == value.to_integral()
        value = int(value) if whole else float(value)
    if isinstance(value, float) and kind == "integer" and value.is_integer():
        return int(value)
    return value


# Files


def config_option() -> argparse.ArgumentParser:
    """Make a parent parser with the option --config, whose values are sources of `read_config`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--config",
        action="append",
        required=True,
        metavar=f"FILE|{ENVIRONMENT}",
        help="the tap's settings, or ENV for the variables TAP_VITESS_...; may be repeated",
    )
    return parser


def read_settings(path: str) -> dict[str, Any]:
    """Read a file of settings without checking them.

    Raises:
        ConfigError: it cannot be read, or is not an object.
    """
    found = read_json(path, ConfigError)
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: an object of settings is expected")
    return found


def read_json(path: str, error: type[VitessError]) -> Any:
    """Read a JSON file; raises `error` if that fails."""
    return parse_json(path, lambda: Path(path).read_bytes(), error)


def parse_json(
    name: str,
    read: Callable[[], bytes],
    error: type[VitessError],
    parse_float: Callable[[str], object] = float,
) -> Any:
    """Parse the contents of a file; raises an `error` that names the file if that fails.

    Args:
        name: of the file.
        read: returns its bytes.
        error: the class of the error.
        parse_float: converts numbers with a point.
    """
    try:
        text = read().decode("utf-8-sig")
        if not text.strip():
            raise error(f"{name} is empty")
        return json.loads(text, parse_float=parse_float)
    except OSError as cause:
        raise error(f"{name} cannot be read ({cause.strerror})") from cause
    except UnicodeDecodeError as cause:
        raise error(f"{name} is not UTF-8 ({cause.reason} at byte {cause.start:,})") from cause
    except RecursionError:
        raise error(f"{name} is nested too deep") from None
    except ValueError as cause:
        raise error(f"{name} is not JSON ({cause})") from cause


# The environment


def of_environment(
    environment: Mapping[str, str], schemas: Schemas = SETTINGS, prefix: str = "TAP_VITESS_"
) -> dict[str, Any]:
    """Return the settings in environment variables.

    A variable that resembles a setting, or is another tap's name for one, is an error. Others are
    ignored: Meltano's variables for plugins that inherit from the tap have the same prefix.

    Raises:
        ConfigError: a variable is not of its setting's type, or its name is misspelt.
    """
    given = {
        variable.removeprefix(prefix).lower(): text
        for variable, text in environment.items()
        if variable.startswith(prefix) and variable.isupper()
    }
    for name in sorted(given.keys() - schemas.keys() - {"loglevel"}):
        if near := _near(name):
            raise ConfigError(
                f"environment variable {prefix}{short(name.upper())}: there is no setting "
                f"{short(name)}; {near}"
            )
    known = given.keys() & schemas.keys()
    return {name: _parsed(name, given[name], schemas[name]) for name in known}


def _parsed(name: str, text: str, schema: Mapping[str, Any]) -> Any:
    kind = _kind(schema)
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
    except (ValueError, RecursionError):
        # The cause would quote the value.
        raise ConfigError(
            f"setting {name}: the environment variable is not a valid {kind}"
        ) from None
    return text


# What is wrong


def _unreadable(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield problems of values that no message, file name or connection can carry."""
    for name, value in settings.items():
        for text in (name, *_texts(value)):
            if text is None:
                yield f"setting {short(name)}: it is nested too deep"
            elif not text.isascii() and re.search("[\ud800-\udfff]", text):
                yield f"setting {short(name)}: half of a surrogate pair is not text"
            elif "\0" in text:
                yield f"setting {short(name)}: text cannot have a NUL character"
            else:
                continue
            break


def _texts(value: Any) -> Iterator[str | None]:
    """Yield every text of a value, including members' names; None if it is nested too deep."""
    waiting = [(value, 0)]
    while waiting:
        found, depth = waiting.pop()
        if depth > _DEEPEST:
            yield None
            return
        if isinstance(found, str):
            yield found
        elif isinstance(found, Mapping):
            waiting += [(part, depth + 1) for pair in found.items() for part in pair]
        elif isinstance(found, list | tuple):
            waiting += [(part, depth + 1) for part in found]


def _unknown(names: Collection[str]) -> Iterator[str]:
    for name in sorted(names - SETTINGS.keys()):
        near = _near(name) or "docs/settings.md lists them all"
        yield f"setting {short(name)}: there is no such setting; {near}"


def _near(name: str) -> str | None:
    word = name.lower().replace("-", "_")
    if why := _REFUSED.get(word):
        return f"that flag of VStream is not set, because {why}"
    if word in SETTINGS:
        return f"it is written {word}"
    if word in _ELSEWHERE:
        return f"what this tap has for it is {_ELSEWHERE[word]}"
    found = difflib.get_close_matches(word[:100], SETTINGS, n=1, cutoff=0.75)
    return f"did you mean {found[0]}?" if found else None


def _unfit(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the JSON schema refuses, and numbers that are not finite."""
    infinite = {n for n, v in settings.items() if isinstance(v, float) and not math.isfinite(v)}
    for name in sorted(infinite & SETTINGS.keys()):
        yield f"setting {name}: a finite number is expected"
    for error in Draft202012Validator(SETTINGS_SCHEMA).iter_errors(settings):
        if not error.absolute_path:
            yield f"settings: {short(error.message)}"
            continue
        name = str(error.absolute_path[0])
        if SETTINGS[name].get("secret"):
            yield f"setting {name}: {SETTINGS[name]['type']} of text is expected"
        elif name not in infinite:
            yield f"setting {name}: {short(error.message)}; docs/settings.md says what it takes"


def short(text: str) -> str:
    """Return only the beginning of a text that is too long to quote; errors escape it (`shown`)."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]}... ({len(text):,} characters)"
