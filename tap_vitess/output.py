"""Everything of Singer that goes to stdout, through one buffer (`buffer.py`).

RECORD lines made elsewhere and the SDK's own messages share it. It is flushed by size and after
every message that is no RECORD.
"""

from __future__ import annotations

from singer_sdk.singerlib import Message, RecordMessage, StateMessage
from singer_sdk.singerlib.encoding import GenericSingerWriter
from singer_sdk.singerlib.json import serialize_json

from tap_vitess.buffer import LineBuffer


class BufferedWriter(LineBuffer, GenericSingerWriter[bytes, Message]):
    """The tap's message writer."""

    def serialize_message(self, message: Message) -> bytes:
        return serialize_json(message.to_dict()).encode() + b"\n"

    def write_message(self, message: Message) -> None:
        self.write_line(self.format_message(message))
        self.ends_with_state = isinstance(message, StateMessage)
        if not isinstance(message, RecordMessage):
            self.flush()
