"""Prints rows and their changes as they come: HOST:GRPC_PORT:MYSQL_PORT TABLE..."""

import sys

from tap_vitess.vstream import Boundary, Change, TableCopied, Vitess, changes

host, grpc_port, mysql_port = sys.argv[1].split(":")
vitess = Vitess(host, int(grpc_port), int(mysql_port))

for item in changes(vitess, sys.argv[2:], follow=True, signals=True):
    match item:
        case Change(operation="copy" | "insert", after=row):
            print(f"{item.commit_time or 'copied':26} {item.name} + {row}", flush=True)
        case Change(operation="delete", before=row):
            print(f"{item.commit_time!s:26} {item.name} - {row}", flush=True)
        case Change(before=dict() as before, after=dict() as after):
            changed = {name: value for name, value in after.items() if before.get(name) != value}
            print(f"{item.commit_time!s:26} {item.name} {item.key} now {changed}", flush=True)
        case TableCopied():
            print(f"{'':26} {item.name} is copied; from here on it is followed", flush=True)
        case Boundary():
            pass  # store item.state to resume from here
