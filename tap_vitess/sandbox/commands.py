"""`python -m tap_vitess.sandbox`: a sharded VTGate with sample data, for people without a cluster.

Guarantees: the ready file exists only while both ports answer; SIGINT and SIGTERM end the
process with exit code 0.
"""

import argparse
import importlib.util
import logging
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.errors import RECORDED
from tap_vitess.sandbox.faults import Fault, Faults
from tap_vitess.sandbox.sample import live_writes, sample_cluster
from tap_vitess.sandbox.server import Sandbox, serve


def run(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; return the exit code."""
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("mysql_mimic") is None:
        sys.stderr.write(
            "The sandbox needs the extra sandbox, as in pip install '.[sandbox]' in a clone\n"
        )
        return 1
    if why := _occupied(options):
        sys.stderr.write(f"tap-vitess-sandbox: {why}\n")
        return 1
    logging.getLogger("mysql_mimic").setLevel(logging.CRITICAL)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    ready_file: Path | None = options.ready_file
    with serve(
        sample_cluster(options.rows),
        host=options.host,
        grpc_port=options.grpc_port,
        mysql_port=options.mysql_port,
        username=options.user,
        password=options.password,
        faults=Faults(options.breaks),
    ) as sandbox:
        sys.stdout.write(_how_to_connect(sandbox, options.user))
        sys.stdout.flush()
        if ready_file is not None:
            ready_file.write_text(f"{sandbox.grpc_port} {sandbox.mysql_port}\n")
        reshard = threading.Timer(options.reshard_after or 0, _reshard, [sandbox.cluster])
        try:
            if options.reshard_after is not None:
                reshard.start()
            _write(sandbox.cluster, options.live_writes, stopped)
        finally:
            reshard.cancel()
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)
    return 0


def _occupied(options: argparse.Namespace) -> str | None:
    """Return why a port cannot be served, in one line; gRPC and asyncio need many."""
    for option in ("grpc_port", "mysql_port"):
        port = getattr(options, option)
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        try:
            socket.create_server((options.host, port), family=family).close()
        except (OSError, OverflowError) as error:
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
            return (
                f"port {port} of {options.host} cannot be served ({why}): give another one by "
                f"--{option.replace('_', '-')}; 0 picks a free port"
            )
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tap-vitess-sandbox",
        description="A simulated sharded Vitess: VTGate's gRPC VStream and its MySQL protocol.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--grpc-port", type=int, default=15991, help="0 picks a free port")
    parser.add_argument("--mysql-port", type=int, default=15306, help="0 picks a free port")
    parser.add_argument("--rows", type=int, default=1000, help="customers in the sample")
    parser.add_argument(
        "--live-writes", type=float, default=0, metavar="N", help="random writes per second"
    )
    parser.add_argument(
        "--reshard-after",
        type=float,
        metavar="SECONDS",
        help="split the shard -80 of the keyspace shop in two",
    )
    parser.add_argument("--user", help="ask for this user and --password on both ports")
    parser.add_argument("--password")
    parser.add_argument(
        "--ready-file", type=Path, metavar="PATH", help="written when both ports answer"
    )
    parser.add_argument(
        "--break",
        dest="breaks",
        type=_fault,
        action="append",
        default=[],
        metavar="KIND=VALUE[,times=N|always]",
        help="break on purpose, may be repeated: cut_after_events=N, cut_after_all_events=N, "
        "cut_in_copy=N, stall_after_events=N, no_tablet_for=WORDS (of SQL), or "
        "error=NAME with NAME one of " + ", ".join(sorted(RECORDED)),
    )
    return parser


def _fault(text: str) -> Fault:
    fault = Fault()
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            _set(fault, name, value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{part!r} is not a fault") from error
    return fault


def _set(fault: Fault, name: str, value: str) -> None:
    if name == "error" and value in RECORDED:
        fault.error = value
    elif name == "times":
        fault.times = None if value == "always" else int(value)
    elif name == "cut_after_events":
        fault.cut_after_events = int(value)
    elif name == "cut_after_all_events":
        fault.cut_after_all_events = int(value)
    elif name == "cut_in_copy":
        fault.cut_in_copy = int(value)
    elif name == "stall_after_events":
        fault.stall_after_events = int(value)
    elif name == "no_tablet_for" and value:
        fault.no_tablet_for = value
    else:
        raise ValueError(name)


def _how_to_connect(sandbox: Sandbox, user: str | None) -> str:
    keyspaces = ", ".join(
        f"{keyspace} ({' '.join(sandbox.cluster.shards(keyspace))})"
        for keyspace in sandbox.cluster.keyspaces()
    )
    credentials = f"-u {user} -p" if user else "-u root"
    return (
        f"gRPC VStream  {sandbox.host}:{sandbox.grpc_port}\n"
        f"MySQL         {sandbox.host}:{sandbox.mysql_port}\n"
        f"keyspaces     {keyspaces}\n"
        f"Try           mysql -h {sandbox.host} -P {sandbox.mysql_port} {credentials} shop\n"
        "Stop with Ctrl-C.\n"
    )


def _reshard(cluster: Cluster) -> None:
    cluster.reshard("shop", ["-80"], ["-40", "40-80"])


def _write(cluster: Cluster, per_second: float, stopped: threading.Event) -> None:
    """Write at that rate until stopped; without a rate, only wait."""
    if not per_second:
        stopped.wait()
        return
    writes = live_writes(cluster, random.Random(1))  # noqa: S311 - reproducible, not secret
    while not stopped.wait(1 / per_second):
        next(writes)
