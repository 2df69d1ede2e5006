"""A destination by its address, or by its name in dlt.

An address is what SQLAlchemy and dlt call one: `duckdb:///shop.duckdb`, `postgresql://...`. A name
takes its credentials from dlt's own configuration. No message has what stands in an address.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import dlt
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.configuration.specs import ConnectionStringCredentials
from dlt.common.destination import AnyDestination, Destination
from dlt.common.destination.exceptions import UnknownDestinationModule

from tap_vitess.errors import ConfigError

# Schemes that are called otherwise than dlt's destinations.
_NAMES: Mapping[str, str] = {"postgresql": "postgres", "md": "motherduck"}
_FILES = {"file", "s3", "gs", "gcs", "az", "abfss", "adl", "azure", "sftp", "hf"}
_SQLALCHEMY = {"sqlite", "mysql", "mariadb", "oracle", "trino"}
_ADVICE = (
    "give an address such as duckdb:///shop.duckdb or postgresql://user:password@host/database, "
    "or the name of a destination of dlt's"
)


def destination_of(address: str, dataset: str) -> AnyDestination:
    """Return a destination of dlt's.

    Raises:
        ConfigError: dlt has none of this name, or cannot read the address.
    """
    scheme, given, rest = address.partition("://")
    kind = scheme.partition("+")[0].lower() if given else address
    name, options = _NAMES.get(kind, kind), dict[str, Any]()
    if given and kind == "duckdb":
        options = {"credentials": _duckdb_file(address, dataset)}
    elif given and kind in _FILES:
        name, options = "filesystem", {"bucket_url": address}
    elif given:
        name = "sqlalchemy" if kind in _SQLALCHEMY else name
    try:
        if name == "filesystem" and given and not rest.strip("/"):
            raise ValueError(address)  # noqa: TRY301 - as dlt raises where it cannot read others
        if given and not options:
            ConnectionStringCredentials(address)  # dlt reads it as late as it connects
            options = {"credentials": _with_host(address)}
        found = Destination.from_reference(name, **options)
    except UnknownDestinationModule:
        raise ConfigError(f"--to: dlt has no destination {name}; {_ADVICE}") from None
    except (ConfigurationException, ValueError):
        # The cause would quote the address.
        raise ConfigError(f"--to: this is not an address of a {name}; {_ADVICE}") from None
    if found is None:
        raise ConfigError(f"--to: {_ADVICE}")
    return found


def _with_host(address: str) -> str:
    """Return an address with a host: that of a socket is in `?host=`, where dlt misses it."""
    parts = urlsplit(address)
    if parts.hostname or "host=" not in parts.query:
        return address
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}localhost"))


def _duckdb_file(address: str, dataset: str) -> str:
    path = Path(urlsplit(address).path.removeprefix("/"))
    if path.stem == dataset:
        raise ConfigError(
            f"--to: DuckDB cannot distinguish the file {path.name} from the dataset {dataset} in "
            "it: give the dataset another name by --dataset"
        )
    if not path.name:
        raise ConfigError("--to: duckdb:/// and a file are expected, as in duckdb:///shop.duckdb")
    return str(path.absolute())


def name_of(pipeline: dlt.Pipeline) -> str:
    """Return what a destination is called in messages."""
    kind: str = pipeline.destination.destination_type
    return kind.rpartition(".")[2]
