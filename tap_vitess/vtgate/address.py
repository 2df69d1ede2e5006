"""Where a VTGate is, and what both ports need from a client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tap_vitess.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What both ports use when TLS is on; file contents are PEM."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A VTGate's two ports, and what they ask of a client.

    grpc_headers: sent with each call, as an access token. max_message_bytes: of a response; None
    for no limit.
    """

    host: str
    grpc_port: int
    mysql_port: int
    user: str | None
    password: str | None = field(repr=False)
    tls: Tls | None
    grpc_headers: Mapping[str, str] = field(repr=False)
    max_message_bytes: int | None
    connect_timeout_seconds: float

    @property
    def name(self) -> str:
        """The host as the system takes it: an IPv6 address without brackets."""
        return self.host.removeprefix("[").removesuffix("]")

    def at(self, port: int) -> str:
        """Write host and port, as gRPC takes them: an IPv6 address in brackets."""
        return f"[{self.name}]:{port}" if ":" in self.name else f"{self.name}:{port}"

    def masked(self, text: str) -> str:
        """Take the secrets out of what a server has said: it may quote what it was sent."""
        secrets = {self.password, *self.grpc_headers.values()} - {None, "", self.user}
        for secret in sorted(map(str, secrets), key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", text)
        return text


_LONGEST_LABEL = 63


def check_host(host: str) -> None:
    """Refuse what is not a name or address; looking up some of it fails in Python's codec."""
    if re.search(r"\s", host):
        raise ConfigError("setting host: a name has no blanks")
    if "/" in host or "@" in host:
        raise ConfigError(f"setting host: {host!r:.200} is more than a name: leave out the rest")
    if "%" not in host and ":" in host and not re.fullmatch(r"[\[\]0-9a-fA-F:.]+", host):
        raise ConfigError(
            f"setting host: {host!r:.200} is a name with a port, which goes into grpc_port and "
            "mysql_port"
        )
    labels = host.removesuffix(".").split(".")
    try:
        fits = all(0 < len(label.encode("idna")) <= _LONGEST_LABEL for label in labels)
    except UnicodeError:
        fits = False
    if not fits and ":" not in host:
        raise ConfigError(f"setting host: {host!r:.200} is not a host name")


_HEADER = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_PRINTABLE = re.compile(r"[ -~]*")


def check_metadata(values: Mapping[str, Any]) -> None:
    """Refuse what gRPC's metadata cannot carry; gRPC itself would quote it, secrets included."""
    for name in ("user", "password"):
        if not _PRINTABLE.fullmatch(values[name] or ""):
            raise ConfigError(f"setting {name}: gRPC carries printable ASCII characters only")
    for header, value in values["grpc_headers"].items():
        if not _HEADER.fullmatch(header.lower()) or not _PRINTABLE.fullmatch(value):
            raise ConfigError(
                f"setting grpc_headers: the header {header!r} cannot be sent by gRPC: use a name "
                "of letters, digits, '-', '_' and '.', and a value of printable ASCII characters"
            )


def tls_of(*, enabled: bool, files: dict[str, str | None]) -> Tls | None:
    if not enabled:
        if given := [f"tls_{name}" for name, value in files.items() if value is not None]:
            raise ConfigError(f"settings {', '.join(given)} are given, but tls is not true")
        return None
    if (files["cert_file"] is None) != (files["key_file"] is None):
        raise ConfigError("settings tls_cert_file and tls_key_file go together")
    for name in ("ca_file", "cert_file", "key_file"):
        if (path := files[name]) is not None and not _is_file(path):
            raise ConfigError(f"setting tls_{name}: there is no file {path:.200}")
    return Tls(**files)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a name that is too long
        return False
