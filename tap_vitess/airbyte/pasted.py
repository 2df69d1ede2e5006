"""Certificates pasted into Airbyte's settings, as files.

OpenSSL reads keys only from files. Nobody else can read their folder, which is removed when the
process ends.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tap_vitess.errors import ConfigError

# The setting for a file -> the setting for its pasted text.
PASTED = {
    "tls_ca_file": "tls_ca_pem",
    "tls_cert_file": "tls_cert_pem",
    "tls_key_file": "tls_key_pem",
}
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)


def files_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with files in place of pasted texts.

    Raises:
        ConfigError: a text is not PEM, or its file is set as well. The message quotes nothing.
    """
    found = {name: value for name, value in settings.items() if name not in PASTED.values()}
    for name, pasted in PASTED.items():
        text = settings.get(pasted)
        if text is None or text == "":
            continue
        if found.get(name):
            raise ConfigError(f"settings {name} and {pasted}: give one of them")
        found[name] = _written(pasted, text)
    return found


def _written(name: str, text: object) -> str:
    # One-line input fields turn line ends into blanks, or into the two characters \n.
    blocks = _BLOCK.findall(text.replace("\\n", "\n")) if isinstance(text, str) else []
    if not blocks:
        raise ConfigError(
            f"setting {name}: paste the text of a PEM file, from -----BEGIN to the last -----END"
        )
    path = Path(_folder().name) / name
    lines = [
        line
        for kind, body in blocks
        for line in (
            f"-----BEGIN {kind}-----",
            *textwrap.wrap("".join(body.split()), 64),
            f"-----END {kind}-----",
        )
    ]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii", errors="replace")
    return str(path)


@functools.cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="source-vitess-")
