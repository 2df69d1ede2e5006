"""Where a Vitess is and how it is read: a frozen value that makes a Config.

Its names, choices, defaults and checks are those of `Config`, which a test verifies. They are
written out here for editors and type checkers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

from tap_vitess.config import Config, Keys, OnLostPosition, TabletType
from tap_vitess.protocol.images import OnPartialImage
from tap_vitess.protocol.request import CellPreference
from tap_vitess.settings import checked
from tap_vitess.vtgate.address import Tls


@dataclass(frozen=True, slots=True)
class Vitess:
    """A VTGate, with its gRPC and its MySQL port; its repr shows no secrets.

    tls: True, or a Tls with files. decimal_as: "number" gives a float instead of a Decimal.
    json_as: "string" gives the document's text, which Polars and Arrow accept even if documents
    differ. The others are the tap's settings of the same names: see docs/settings.md.
    """

    host: str
    grpc_port: int = 15991
    mysql_port: int = 15306
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool | Tls = False
    grpc_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tablet_type: TabletType = "PRIMARY"
    shards: Sequence[str] | None = None
    cells: Sequence[str] = ()
    cell_preference: CellPreference | None = None
    minimize_skew: bool = False
    keys: Keys = "with_vindex"
    on_lost_position: OnLostPosition = "fail"
    on_partial_image: OnPartialImage = "fetch"
    float_as: Literal["selected", "stored"] = "selected"
    invalid_text: Literal["error", "replace"] = "error"
    json_as: Literal["object", "string"] = "object"  # these three for Python objects
    decimal_as: Literal["string", "number"] = "string"
    tinyint1_as: Literal["integer", "boolean"] = "integer"
    zero_dates: Literal["null", "error", "string"] = "null"  # these two for rows as Arrow
    set_as: Literal["string", "array"] = "string"
    copy_parallelism: int = 1
    connect_timeout_seconds: float = 10
    max_message_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: a setting is wrong, or a file cannot be read.
        """
        self.config()

    def config(self) -> Config:
        """Return the settings for the engine."""
        own = ((f.name, getattr(self, f.name)) for f in fields(self))
        given = {name: value for name, value in own if value is not None}
        given |= {"cells": list(self.cells), "grpc_headers": dict(self.grpc_headers)}
        if self.shards is not None:
            given["shards"] = [self.shards] if isinstance(self.shards, str) else list(self.shards)
        if isinstance(self.tls, Tls):
            files = {f"tls_{f.name}": getattr(self.tls, f.name) for f in fields(self.tls)}
            given |= {"tls": True, **{name: path for name, path in files.items() if path}}
        return checked(given)
