"""Certificates for tests: an authority of their own, and files as the network file names them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.x509 import load_pem_x509_certificate


@dataclass
class Certificates:
    """An authority, and the certificate of a network at 127.0.0.1 in files."""

    folder: Path
    ca: trustme.CA

    @classmethod
    def at(cls, folder: Path) -> Certificates:
        made = cls(folder, trustme.CA())
        made.ca.cert_pem.write_to_path(folder / "ca.pem")
        made.renew()
        return made

    @property
    def section(self) -> dict[str, str]:
        """What `network.tls` says."""
        return {"cert": "cert.pem", "key": "key.pem"}

    def renew(self, ca: trustme.CA | None = None) -> int:
        """Write another certificate and key into the files. Return its serial number."""
        issued = (ca or self.ca).issue_cert("127.0.0.1", "localhost")
        (self.folder / "key.new").write_bytes(issued.private_key_pem.bytes())
        (self.folder / "cert.new").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        for name in ("key", "cert"):
            (self.folder / f"{name}.new").replace(self.folder / f"{name}.pem")
        return serial_of((self.folder / "cert.pem").read_text())

    def client(self, named: str | None = None) -> ssl.SSLContext:
        """Return what a client that trusts the authority speaks TLS with.

        Args:
            named: who the client's own certificate is for.
        """
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if named is not None:
            self.ca.issue_cert(named).configure_cert(context)
        return context


def serial_of(pem: str) -> int:
    return load_pem_x509_certificate(pem.encode()).serial_number
