"""`tap-vitess join-states`: the last states of several jobs as one, on stdout.

For jobs that have some of a keyspace's shards each (the setting shards), before one job
continues with the shards of all of them. See `run/joined.py`.
"""

from __future__ import annotations

import json
import sys

import click

from tap_vitess.errors import StateError, VitessError
from tap_vitess.run.joined import join_states, tables_of
from tap_vitess.settings import read_json


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="STATE...")
def command(files: tuple[str, ...]) -> None:
    """Join the states of jobs that have different shards; each file holds a last STATE's value."""
    states = [json.dumps(read_json(name, StateError)) for name in files]
    joined = join_states(*states)
    sys.stdout.write(joined + "\n")
    sys.stdout.flush()
    for table in sorted(set().union(*map(tables_of, states)) - tables_of(joined)):
        why = "not every state follows it on shards of its own, so it is copied as a new table"
        click.echo(f"tap-vitess join-states: {table}: {why}", err=True)


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
