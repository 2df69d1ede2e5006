"""Tables, a position and options -> VStreamRequest.

Every rule is an exact table with its own select: an exact rule without one copies well and
fails at the first change, and a regexp also matches views and internal tables (facts, 2.3).
All shards of a keyspace go into one request: a stream over some of them dies at a reshard.

From v23 on, if one image of a row passes a filter, both come, so nothing would show that the row
has left the filter. With a key range in the filter, each image is filtered on its own, as before.
So a filter ends with a key range that holds every row, by a vindex that the keyspace need not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.protocol.filters import quoted
from tap_vitess.protocol.vgtid import Vgtid

CellPreference = Literal["preferlocalwithalias", "onlyspecified"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a request asks of a table.

    columns: in the table's order, including the key's; None for all. where: conditions as SQL, None
    for all rows. hashed: a column that all images have, for the key range that filters each image
    on its own. The vindex `null` accepts any column. Vitess first looks it up by name: no two
    keyspaces may have a vindex of that name.
    """

    columns: tuple[str, ...] | None = None
    where: str | None = None
    hashed: str = ""

    def select(self, table: str) -> str:
        """Write the rule's SELECT."""
        columns = "*" if self.columns is None else ", ".join(map(quoted, self.columns))
        select = f"select {columns} from {quoted(table)}"  # noqa: S608
        if self.where is None:
            return select
        return f"{select} where {self.where} and in_keyrange({quoted(self.hashed)}, 'null', '-')"


EVERYTHING = Rule()


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The options that all requests of a run share.

    tablet_type: PRIMARY, REPLICA or RDONLY. cells: where to look for tablets, empty = VTGate's
    own cell; not used for PRIMARY. heartbeat_seconds: VTGate sends something at least this often.
    rules: of tables that are read only in part. cell_preference: whether VTGate's own cell goes
    first. minimize_skew: whether VTGate holds back shards that are ahead of others.
    """

    tablet_type: str = "PRIMARY"
    cells: Sequence[str] = ()
    heartbeat_seconds: int = 1
    rules: Mapping[str, Rule] = field(default_factory=dict)
    cell_preference: CellPreference | None = None
    minimize_skew: bool = False


def stream_request(
    tables: Iterable[str], position: Vgtid, options: RequestOptions
) -> vtgate.VStreamRequest:
    """Ask for all changes of `tables` after `position`."""
    return _request(position.to_proto(), tables, options)


def copy_request(
    keyspace: str,
    table: str,
    progress: Mapping[str, query.QueryResult | None],
    options: RequestOptions,
) -> vtgate.VStreamRequest:
    """Ask for the rows of one table; `progress` maps each unfinished shard to its lastpk.

    The GTID is empty, so VTGate takes a fresh snapshot and no old binlog is needed.
    """
    vgtid = binlogdata.VGtid(
        shard_gtids=[
            binlogdata.ShardGtid(
                keyspace=keyspace,
                shard=shard,
                gtid="",
                table_p_ks=[binlogdata.TableLastPK(table_name=table, lastpk=lastpk)]
                if lastpk is not None
                else [],
            )
            for shard, lastpk in sorted(progress.items())
        ]
    )
    return _request(vgtid, [table], options)


def first_request(
    keyspace: str,
    tables: Iterable[str],
    options: RequestOptions,
    *,
    copy: bool = False,
    shards: Iterable[str] = ("",),
) -> vtgate.VStreamRequest:
    """Ask for a copy of `tables` and the changes after it, or only for changes from now on.

    Without tables it tests that streams open: each shard reports its position. The empty name
    stands for all shards.
    """
    begin = "" if copy else "current"
    entries = [binlogdata.ShardGtid(keyspace=keyspace, shard=s, gtid=begin) for s in shards]
    return _request(binlogdata.VGtid(shard_gtids=entries), tables, options)


def _request(
    vgtid: binlogdata.VGtid, tables: Iterable[str], options: RequestOptions
) -> vtgate.VStreamRequest:
    return vtgate.VStreamRequest(
        tablet_type=options.tablet_type,
        vgtid=vgtid,
        filter=binlogdata.Filter(rules=[_rule(table, options) for table in sorted(tables)]),
        flags=vtgate.VStreamFlags(
            heartbeat_interval=options.heartbeat_seconds,
            cells=",".join(options.cells),
            cell_preference=options.cell_preference or "",
            minimize_skew=options.minimize_skew,
        ),
    )


def _rule(table: str, options: RequestOptions) -> binlogdata.Rule:
    if table.startswith("/"):  # VTGate would read the name itself as a regexp
        return binlogdata.Rule(match=f"/^{re.escape(table)}$")
    return binlogdata.Rule(match=table, filter=options.rules.get(table, EVERYTHING).select(table))
