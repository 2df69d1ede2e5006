"""Sizes and delays of the simulated tablets; the defaults are those of a real one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    # A real tablet fills packets by bytes, growing them while the client keeps up.
    copy_rows_per_packet: int = 1000
    packet_bytes: int = 250_000
    heartbeat_unit: float = 1.0  # real seconds for each second of the requested interval
    # MySQL's binlog_row_event_max_size: where the rows of a statement are split.
    row_event_bytes: int = 8192
    # How long VTGate looks for a tablet, in seconds, before it gives up.
    tablet_wait: float = 90.0
    # vttablet's --track_schema_versions: old row events are read with the columns of their time.
    track_schema_versions: bool = False
    # Since Vitess 23 both images come if one passes a filter without a key range.
    both_images: bool = False
