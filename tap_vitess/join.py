"""`tap-vitess join-states`: the last states of several jobs as one, on stdout.

For jobs that have some of a keyspace's shards each (the setting shards), before one job goes on
with the shards of all of them. See `run/joined.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tap_vitess.errors import StateError, VitessError
from tap_vitess.run.joined import join_states


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="STATE...")
def command(files: tuple[str, ...]) -> None:
    """Join the states of jobs that have different shards; each file holds a last STATE's value."""
    sys.stdout.write(join_states(*map(_read, files)) + "\n")
    sys.stdout.flush()


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except OSError as cause:
        raise StateError(f"{name} cannot be read ({cause.strerror})") from cause
    except UnicodeDecodeError as cause:
        why = f"{cause.reason} at byte {cause.start:,}"
        raise StateError(f"{name} is not UTF-8 ({why})") from None


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    try:
        command.main(arguments, prog_name="tap-vitess join-states", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except VitessError as error:
        click.echo(f"tap-vitess join-states: {error.coded()}", err=True)
        return 1
    return 0
