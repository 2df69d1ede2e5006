"""A simulated sharded Vitess in one process, for people without a cluster and for tests.

`serve` runs it, `Cluster` is its contents, `Fault` breaks it. The MySQL side needs the extra
`tap-vitess[sandbox]`.
"""

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
