"""All Singer messages on their way to stdout, through one buffer (`stdout.py`).

RECORD lines made elsewhere and the SDK's own messages share it. It is flushed by size and after
every message that is not a RECORD.
"""

from __future__ import annotations

from typing import Any

from singer_sdk.singerlib import Message, RecordMessage, SchemaMessage, StateMessage
from singer_sdk.singerlib.encoding import GenericSingerWriter
from singer_sdk.singerlib.json import serialize_json

from tap_vitess.stdout import LineBuffer


class BufferedWriter(LineBuffer, GenericSingerWriter[bytes, Message]):
    """The tap's message writer."""

    def serialize_message(self, message: Message) -> bytes:
        return serialize_json(_fields(message)).encode() + b"\n"

    def write_message(self, message: Message) -> None:
        self.write_line(self.format_message(message))
        self.ends_with_state = isinstance(message, StateMessage)
        if not isinstance(message, RecordMessage):
            self.flush()


def _fields(message: Message) -> dict[str, Any]:
    """Return a message's fields; `to_dict` deep-copies schemas and states, in 1 ms or more."""
    if isinstance(message, StateMessage):
        return {"type": message.type, "value": message.value}
    if not isinstance(message, SchemaMessage) or message.bookmark_properties is not None:
        return message.to_dict()
    fields = {"type": message.type, "stream": message.stream, "schema": message.schema}
    return fields | {"key_properties": message.key_properties}
