"""Have OpenSSL not tidy up at the end of a process. Import this before anything imports `hashlib`.

At exit(3) OpenSSL frees all that it has allocated. In a forked worker that writes to a hundred pages
that it shares with the guardian: half a millisecond, just before they are all given back. It has
no files and no buffers that would be lost.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from importlib.util import find_spec

_NO_ATEXIT = 0x0008_0000  # OPENSSL_INIT_NO_ATEXIT, of OpenSSL 1.1.1; what comes first rules


def _forgo_cleanup() -> None:
    with suppress(OSError, AttributeError):  # another library, or one that hides its functions
        if (spec := find_spec("_hashlib")) is not None and spec.origin is not None:
            # It is loaded with the library that this Python uses, which is searched, too.
            ctypes.CDLL(spec.origin).OPENSSL_init_crypto(ctypes.c_uint64(_NO_ATEXIT), None)


_forgo_cleanup()
