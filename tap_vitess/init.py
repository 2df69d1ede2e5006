"""`tap-vitess init`: a first config, from a few questions or from options alone.

With --host nothing is asked, so a script can write a config. Without it the questions need a
terminal. A file that exists is kept unless --force is given, and only its owner can read the file,
because it may hold a password. Only what differs from the defaults is written.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import click

from tap_vitess.config import SETTINGS
from tap_vitess.errors import ConfigError
from tap_vitess.settings import checked
from tap_vitess.signals import SIGNALS

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
    _tell(_NEXT.format(path=path))


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    for number in SIGNALS:  # they end it at once; on Ctrl-C, click says that it aborts
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command.main(arguments, prog_name="tap-vitess init", standalone_mode=True)
    except ConfigError as error:
        _tell(f"tap-vitess init: {error.coded()}\n")
        return 1
    return 0


def _tell(text: str) -> None:
    with suppress(OSError):  # a closed stderr ends nothing
        click.echo(text, err=True, nl=False)


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """Ask for what a first run needs; the options given are the default answers.

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
    """Write the whole file, or keep the old one: a disk may be full.

    It is always a new file, so permissions of an old one do not carry over.
    """
    part = None
    try:
        with NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            part = Path(file.name)
            file.write(text)
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error
