"""Airbyte's failure type of each error, decided only here. Pure.

config_error     somebody must do something; Airbyte does not try again
transient_error  Airbyte tries again, from the last STATE
system_error     the connector's own fault, or the server's
"""

from __future__ import annotations

from typing import Literal

from tap_vitess.errors import (
    AuthError,
    CatalogError,
    ConfigError,
    ConnectError,
    CopyCutError,
    FencedError,
    ProtocolError,
    RequestError,
    RetriableError,
    StateError,
    TargetClosedError,
    ValueDecodeError,
    VitessError,
)

FailureType = Literal["config_error", "transient_error", "system_error"]

# One entry for each branch of the tree in errors.py; subclasses inherit its type.
FAILURE_TYPES: dict[type[VitessError], FailureType] = {
    ConfigError: "config_error",
    CatalogError: "config_error",
    StateError: "config_error",
    AuthError: "config_error",
    RequestError: "config_error",
    ValueDecodeError: "config_error",  # a setting or the selection of columns helps
    ConnectError: "transient_error",  # `check` has reached the server before
    RetriableError: "transient_error",
    CopyCutError: "transient_error",
    FencedError: "config_error",  # another run has taken over: one of the two must be stopped
    ProtocolError: "system_error",
    TargetClosedError: "system_error",
}


def failure_type(error: VitessError) -> FailureType:
    """Return the kind of an error."""
    found = (FAILURE_TYPES[kind] for kind in type(error).__mro__ if kind in FAILURE_TYPES)
    return next(found, "system_error")
