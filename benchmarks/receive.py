"""The raw receive: a client of the same VStream that only takes the bytes.

`python -m benchmarks.receive ADDRESS [--parse] < request`, the request as serialized protobuf;
prints seconds from the first response with rows to the last, the seconds before that first one
(`opening`), and bytes. It ends as the tap
does: a copy at its last COPY_COMPLETED, a stream when only heartbeats follow. Responses that
are large enough to hold rows are not looked into.
"""

from __future__ import annotations

import json
import sys
import time

import grpc

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.vtgate.grpc import METHOD

_SMALL = 200  # bytes; a heartbeat, or the events that end a copy


def main() -> None:
    """Receive one call to its end."""
    address, parse = sys.argv[1], "--parse" in sys.argv
    request = sys.stdin.buffer.read()
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        start: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
        opened = time.perf_counter()
        call = start(request)
        first = last = 0.0
        count = size = 0
        for response in call:
            if parse or len(response) < _SMALL:
                parsed = vtgate.VStreamResponse.FromString(response)
            if len(response) < _SMALL:
                if first and any(_ends(event) for event in parsed.events):
                    break
            else:
                last = time.perf_counter()
                first = first or last
            count += 1
            size += len(response)
        call.cancel()
    told = {"seconds": last - first, "opening": first - opened, "bytes": size, "responses": count}
    json.dump(told, sys.stdout)


def _ends(event: binlogdata.VEvent) -> bool:
    everywhere = event.type == binlogdata.COPY_COMPLETED and not event.shard
    return everywhere or event.type == binlogdata.HEARTBEAT


if __name__ == "__main__":
    main()
