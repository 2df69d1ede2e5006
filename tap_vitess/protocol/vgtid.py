"""Vgtid: a position of a keyspace, one GTID set for each shard.

A value: frozen, comparable, with a JSON text form (the one Vitess prints) and a round trip. It
never carries table_p_ks. A position with them came from a copy, and resuming from it, with or
without its table_p_ks, silently skips tables (facts, 4.2).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess.errors import GtidError, ProtocolError
from tap_vitess.protocol.gtid import GtidSet


@dataclass(frozen=True, slots=True)
class Vgtid:
    """The position of one keyspace; `shards` maps a shard's name to its GTID set."""

    keyspace: str
    shards: Mapping[str, GtidSet]

    def behind(self, other: Vgtid) -> list[str]:
        """Return the shards that are missing here, or less advanced than in `other`."""
        return sorted(
            shard
            for shard, gtids in other.shards.items()
            if shard not in self.shards or not self.shards[shard].contains(gtids)
        )

    def intersection(self, other: Vgtid) -> Vgtid | None:
        """Return the latest position that both contain; None if the shards differ."""
        if self.shards.keys() != other.shards.keys():
            return None
        return Vgtid(
            self.keyspace,
            {s: gtids.intersection(other.shards[s]) for s, gtids in self.shards.items()},
        )

    def to_json(self) -> str:
        """Return the JSON text, shards in order of their names."""
        return json.dumps(
            {
                "shard_gtids": [
                    {"keyspace": self.keyspace, "shard": shard, "gtid": str(gtids)}
                    for shard, gtids in sorted(self.shards.items())
                ]
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, keyspace: str, text: str) -> Vgtid:
        """Read what `to_json` wrote.

        Raises:
            ProtocolError: the text is something else, or of another keyspace.
        """
        try:
            entries: list[dict[str, Any]] = json.loads(text)["shard_gtids"]
            shards = {
                entry["shard"]: GtidSet.parse(entry["gtid"], f"{keyspace}/{entry['shard']}")
                for entry in entries
            }
            keyspaces = {entry["keyspace"] for entry in entries}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ProtocolError("not a VGTID in JSON") from error
        except GtidError as error:
            raise ProtocolError(str(error)) from error
        if keyspaces != {keyspace} or len(shards) != len(entries):
            raise ProtocolError(f"not a VGTID of the keyspace {keyspace}")
        return cls(keyspace, shards)

    @classmethod
    def from_proto(cls, keyspace: str, entries: Iterable[binlogdata.ShardGtid]) -> Vgtid:
        """Read the ShardGtids of a VGTID event; other keyspaces' entries are left out."""
        return cls(
            keyspace,
            {
                e.shard: GtidSet.parse(e.gtid, f"{keyspace}/{e.shard}")
                for e in entries
                if e.keyspace == keyspace
            },
        )

    def to_proto(self) -> binlogdata.VGtid:
        """Return the message to ask VTGate for the changes after this position."""
        return binlogdata.VGtid(
            shard_gtids=[
                binlogdata.ShardGtid(keyspace=self.keyspace, shard=shard, gtid=str(gtids))
                for shard, gtids in sorted(self.shards.items())
            ]
        )
