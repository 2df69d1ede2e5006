"""`tap-vitess init`: a first config, from a few questions or from options alone.

With --host nothing is asked, so a script can write a config. Without it the questions need a
terminal. A file that exists is kept unless --force is given, and only its owner can read the file,
because it may hold a password. Only what differs from the defaults is written.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from tap_vitess.config import SETTINGS
from tap_vitess.errors import ConfigError
from tap_vitess.settings import checked

_NEXT = """{path} is written. Next:

  tap-vitess-doctor --config {path}
  tap-vitess --config {path} --discover > catalog.json
"""
_PASSWORD = "Password (leave it empty to set TAP_VITESS_PASSWORD instead)"  # noqa: S105 - a question


@click.command(epilog="Without questions, set TAP_VITESS_PASSWORD and give --config ENV too.")
@click.option("--config", "path", default="config.json", show_default=True, help="File to write.")
@click.option("--host", help="VTGate's host. With it, nothing is asked.")
@click.option("--grpc-port", type=int, help="VTGate's gRPC port.")
@click.option("--mysql-port", type=int, help="VTGate's MySQL port.")
@click.option("--user", help="User name for both ports.")
@click.option("--tls", is_flag=True, default=None, help="Use TLS on both ports.")
@click.option("--table", "tables", multiple=True, help="keyspace.table with wildcards; repeatable.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def command(path: str, *, force: bool, **given: Any) -> None:
    """Write a config file: from a few questions, or from --host and the other options."""
    if Path(path).exists() and not force:
        raise ConfigError(
            f"{path} exists already: name another file with --config, or give --force"
        )
    given["tables"] = [*given["tables"]]
    settings = given if given["host"] else _asked(given)
    kept = {n: v for n, v in settings.items() if v and v != SETTINGS[n].get("default")}
    checked(kept)
    _write(Path(path), json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    click.echo(_NEXT.format(path=path), err=True, nl=False)


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    try:
        command.main(arguments, prog_name="tap-vitess init", standalone_mode=True)
    except ConfigError as error:
        click.echo(f"tap-vitess init: {error.coded()}", err=True)
        return 1
    return 0


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """Ask for what a first run needs; what an option has given is the answer by default.

    Raises:
        ConfigError: there is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask on: give --host and the other options")
    settings = {
        "host": click.prompt("VTGate's host", value_proc=_host, err=True),
        "grpc_port": _port("gRPC port", given["grpc_port"], "grpc_port"),
        "mysql_port": _port("MySQL port", given["mysql_port"], "mysql_port"),
        "tls": click.confirm("Use TLS", default=bool(given["tls"]), err=True),
        "user": _text("User (leave it empty if VTGate asks for none)", given["user"]),
    }
    if settings["user"]:
        settings["password"] = click.prompt(
            _PASSWORD, default="", show_default=False, hide_input=True, err=True
        )
    tables = _text(
        "Tables, such as shop.orders shop.order_* (leave it empty for all)",
        " ".join(given["tables"]),
    )
    return {**settings, "tables": tables.split()}


def _host(text: str) -> str:
    try:
        return checked({"host": text}).host
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _port(name: str, given: int | None, setting: str) -> int:
    default = given or SETTINGS[setting]["default"]
    port: int = click.prompt(name, default=default, type=click.IntRange(1, 65_535), err=True)
    return port


def _text(question: str, given: str | None) -> str:
    answer: str = click.prompt(question, default=given or "", show_default=bool(given), err=True)
    return answer.strip()


def _write(path: Path, text: str) -> None:
    try:
        path.unlink(missing_ok=True)  # so that a file of before keeps no rights of others
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error
