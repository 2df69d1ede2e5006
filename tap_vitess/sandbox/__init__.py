"""A simulated sharded Vitess in one process, for people without a cluster and for tests.

`serve` runs it, `Cluster` is its contents, `Fault` breaks it. The MySQL side needs the extra
`tap-vitess[sandbox]`.

The console script imports this package before it can take signals over. So the names are imported
when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tap_vitess.sandbox.cluster import Cluster, Column, Table
    from tap_vitess.sandbox.server import Fault, Faults, Options, Sandbox, Tls, serve

__all__ = [
    "Cluster",
    "Column",
    "Fault",
    "Faults",
    "Options",
    "Sandbox",
    "Table",
    "Tls",
    "serve",
]

_OF_THE_CLUSTER = {"Cluster", "Column", "Table"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "cluster" if name in _OF_THE_CLUSTER else "server"
    return getattr(import_module(f"{__name__}.{home}"), name)
