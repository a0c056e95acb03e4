"""What things are called on the servers: subjects, buckets and streams of one network.

A network with the ID `net` has subjects below `mv.net.`, and buckets and streams that begin with
`MV_net_`. `deploy/nats/permissions.conf` opens these names, and nothing else.
"""

from __future__ import annotations

import re

PROTOCOL = 1
"""The version of what nodes say to each other. Raised when an older node would misunderstand it."""

MIN_PROTOCOL = 1
"""The oldest version of nodes that this one works with in one network."""

BUCKETS = ("about", "nodes", "claims", "mods", "state", "agents", "channels", "homes")
EXPIRING = ("nodes",)
"""Buckets whose keys have a time to live: what the servers end there by themselves is gone."""

STREAMS = ("durable", "inbox")
FILES = "files"
"""All names that a network has on the servers; the permissions name each of them."""

_PLAIN = re.compile(r"[^A-Za-z0-9_-]")
_CODED = re.compile(r"=([0-9A-F]{2})")


def token(text: str) -> str:
    """Return a text as one token of a subject or key: `wiki#0` as `wiki=230`, the empty text as `=`."""
    if not text:
        return "="
    return _PLAIN.sub(lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), text)


def text_of(token: str) -> str:
    """Return the text that was made a token."""
    if token == "=":
        return ""
    return _CODED.sub(lambda found: chr(int(found[1], 16)), token).encode("latin-1").decode()


class Names:
    """The names of one network on the servers."""

    def __init__(self, network_id: str) -> None:
        self.network_id = network_id
        self.root = f"mv.{network_id}"

    def subject(self, *parts: str) -> str:
        """Return the subject of these parts, each of which may be any text."""
        return ".".join((self.root, *map(token, parts)))

    def stored(self, name: str) -> str:
        """Return the name of a bucket, of a stream or of the store of files."""
        return f"MV_{self.network_id}_{name}"

    def stream_of_bucket(self, name: str) -> str:
        return f"KV_{self.stored(name)}"
