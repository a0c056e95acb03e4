"""Whether the servers are fit for a network, and whether the network there is the one that this node belongs to."""

from __future__ import annotations

from .buckets import Bucket
from .errors import Foreign, OtherProtocol, OtherSecret, ServersTooOld
from .jetstream import JetStream
from .names import MIN_PROTOCOL, PROTOCOL
from .seal import OTHER_FORM

OLDEST_SERVER = (2, 12)
"""Batches that are stored whole or not at all came with this version of the NATS server."""

ABOUT = "about"
_CARD = "network"


async def check_servers(jetstream: JetStream) -> None:
    """Make sure that the servers keep things. Raises ServersTooOld, JetStreamOff, NotPermitted, NoQuorum."""
    version = str(jetstream.wire.connection().info.get("version", "0"))
    if _numbers(version) < OLDEST_SERVER:
        oldest = ".".join(map(str, OLDEST_SERVER))
        raise ServersTooOld(f"the NATS server is version {version}; update it, a cluster needs {oldest} or newer")
    await jetstream.request("INFO", what="ask JetStream what it may keep")


async def check_card(about: Bucket, network: str) -> None:
    """Compare this node with the card of the network, which its first node writes.

    Raises:
        OtherSecret: the card is sealed with another one.
        OtherProtocol: one side is too old.
    """
    try:
        card = await about.get(_CARD)
        if card is None:
            await about.create_or_leave(_CARD, {"network": network, "protocol": PROTOCOL})
            card = await about.get(_CARD)
    except Foreign as error:
        if error.reason == OTHER_FORM:
            raise _older(network, "a newer protocol") from None
        raise OtherSecret(
            f"the network '{network}' on these servers is sealed with another secret; give this node the "
            "'cluster.secret' of the other nodes, or name another 'cluster.network'"
        ) from None
    spoken = card.value.get("protocol", 0) if card is not None else PROTOCOL
    if spoken > PROTOCOL:
        raise _older(network, f"protocol {spoken}")
    if spoken < MIN_PROTOCOL:
        raise OtherProtocol(
            f"the nodes of the network '{network}' speak protocol {spoken}, this node speaks {MIN_PROTOCOL} or newer; "
            "update modvisor on them first"
        )


def _older(network: str, spoken: str) -> OtherProtocol:
    return OtherProtocol(
        f"the nodes of the network '{network}' speak {spoken}, this node speaks protocol {PROTOCOL}: "
        "it is of an older version; update modvisor here"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdigit())
