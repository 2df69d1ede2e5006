"""A certificate authority for tests, and the files that it issues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trustme

from tap_vitess.sandbox.server import Tls


class Authority:
    """An authority, with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        """Make the folder and the authority's certificate."""
        folder.mkdir()
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)

    def server(self, *names: str, clients: Authority | None = None, **more: Any) -> Tls:
        """Make a server's certificate; with `clients`, clients need one of that authority."""
        made = self.ca.issue_cert(*names, **more)
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        client_ca = clients.ca.cert_pem.bytes() if clients else None
        return Tls(chain, made.private_key_pem.bytes(), client_ca)

    def client(self) -> dict[str, str]:
        """Make a client's certificate; return the settings for it."""
        made = self.ca.issue_cert("elt@example.com")
        certificate, key = self.folder / "client.pem", self.folder / "client.key"
        made.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        return {"tls_cert_file": str(certificate), "tls_key_file": str(key)}
