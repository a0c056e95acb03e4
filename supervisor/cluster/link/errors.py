"""Every failure of the way to the servers: each names what failed, and the next step.

Never: imports nats-py. `failures.py` says which failure of nats-py is which of these.
"""

from __future__ import annotations

from ....ipc.errors import Code, ModvisorError


class ClusterError(ModvisorError):
    """The base of what the servers or the way to them can cause."""

    code = Code.CLUSTER_DOWN


class Unreachable(ClusterError):
    """No server answers. May pass by itself."""


class LinkDown(ClusterError):
    """This node has no connection now. It connects again by itself.

    Attributes:
        was_sent: the message may have left, so it may have been handled.
    """

    def __init__(self, message: str, /, *, was_sent: bool = False) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class NoQuorum(ClusterError):
    """JetStream did not answer in time, or says that it has no leader. Whether it stored is not known."""


class Nobody(ClusterError):
    """Nobody serves the subject. The message was certainly not handled."""

    code = Code.MOD_AWAY


class Refused(ClusterError):
    """The base of what does not pass by itself: somebody has to change a file or a server."""

    code = Code.CLUSTER_REFUSED


class WrongCredentials(Refused):
    """The servers do not know this node."""


class TlsFailed(Refused):
    """The certificates of node and server do not fit together."""


class NotNats(Refused):
    """What answers is not a NATS server."""


class JetStreamOff(Refused):
    """The servers keep nothing: JetStream is off, or not allowed for this account."""


class ServersTooOld(Refused):
    """The servers lack what the network needs of JetStream."""


class NotPermitted(Refused):
    """The servers do not let this node use a subject that it needs."""


class OtherSecret(Refused):
    """The network of this ID is sealed with another secret: it is another network, or the secret is wrong."""


class NameTaken(Refused):
    """Another node of the network has the name of this one."""


class OtherProtocol(Refused):
    """The network's nodes speak a version of the protocol that this node does not speak."""


class Gone(ClusterError):
    """Somebody deleted a bucket or stream of the network."""

    code = Code.NOT_FOUND


class Foreign(ClusterError):
    """What a bucket or the files hold was not written by a node of this network.

    Attributes:
        reason: see `seal.py`.
    """

    code = Code.CLUSTER_REFUSED

    def __init__(self, message: str, /, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class OutOfSpace(ClusterError):
    """JetStream has no room left. Nothing was stored."""

    code = Code.STORAGE_FULL


class TooLarge(ClusterError):
    """A message is larger than the servers take."""

    code = Code.TOO_LARGE


class Taken(ClusterError):
    """Somebody else wrote the key first. Nothing was stored."""

    code = Code.CONFLICT
