"""The TLS context of a client, from what users say of it."""

from __future__ import annotations

import ssl
from pathlib import Path

from .errors import BadUse

Verify = bool | str | Path | ssl.SSLContext
Certificate = str | Path | tuple[str | Path, str | Path]


def make_context(verify: Verify, cert: Certificate | None) -> ssl.SSLContext:
    """Make the context.

    Args:
        verify: True: the certificates that the machine trusts. A path: the certificates in this
            file or folder. False: nothing is checked, so anybody may be the network. A context:
            used as it is.
        cert: the client's own certificate: a file with both, or (certificate, key).
    """
    if isinstance(verify, ssl.SSLContext):
        return verify
    try:
        context = _trusting(verify)
        if cert is not None:
            certificate, key = cert if isinstance(cert, tuple) else (cert, None)
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise BadUse(f"verify={str(verify)!r}, cert={cert!r}: {error}") from error
    return context


def _trusting(verify: bool | str | Path) -> ssl.SSLContext:
    if isinstance(verify, str | Path):
        is_folder = Path(verify).is_dir()
        return ssl.create_default_context(capath=verify) if is_folder else ssl.create_default_context(cafile=verify)
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
