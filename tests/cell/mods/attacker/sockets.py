"""Attacks over sockets: of the network, of other services of the host, and to the outside."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from . import calls
from .ways import Aim, Ways, apart, attack

PATIENCE = 2.0  # seconds
ASK = b"GET /admin/v1/mods HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def _asked(address: str) -> bytes:
    """Ask the admin API, and return its answer if it is one."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(address)
        sock.sendall(ASK)
        answer = b""
        while data := sock.recv(1 << 16):
            answer += data
    if b" 200 " not in answer[:20]:
        raise PermissionError(answer[:200].decode("utf-8", "replace") or "closed without an answer")
    return answer


def _orphaned(address: str) -> bytes:
    """Ask from a process that has no parent among the attacker's: forked twice, in a session of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        try:
            os.write(writing, b"+" + _asked(address)[:200])
        except BaseException as error:  # noqa: BLE001 - the parent is told
            os.write(writing, f"-{error}".encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    if not answer.startswith(b"+"):
        raise PermissionError(answer[1:].decode("utf-8", "replace"))
    return answer[1:]


def _handed_over(address: str) -> bytes:
    """Have a child connect and end, and ask over its connection: whose the socket is cannot be looked up then."""
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        pid = os.fork()
        if pid == 0:
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(address)
                    socket.send_fds(there, [b"+"], [sock.fileno()])
            except OSError as error:
                there.send(f"-{error}".encode())
            os._exit(0)
        os.waitpid(pid, 0)
        said, fds, _, _ = socket.recv_fds(here, 200, 1)
    if not fds:
        raise PermissionError(said[1:].decode())
    with socket.socket(fileno=fds[0]) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(ASK)
        answer = sock.recv(1 << 16)
    if b" 200 " not in answer[:20]:
        raise PermissionError(answer[:200].decode("utf-8", "replace") or "closed without an answer")
    return answer


@attack
def asks_the_admin_socket(aim: Aim) -> Ways:
    def linked() -> bytes:
        name = os.path.join(aim.storage, "link")
        os.symlink(aim.admin_socket, name)
        try:
            return _asked(name)
        finally:
            os.unlink(name)

    ways: Ways = {
        "by its path": lambda: _asked(aim.admin_socket),
        "from an orphan": lambda: _orphaned(aim.admin_socket),
        "over a connection of a dead child": lambda: _handed_over(aim.admin_socket),
        "by a symbolic link": linked,
    }
    for name, pid in {"the supervisor": aim.supervisor, "the guardian": aim.guardian}.items():
        ways[f"by the root of {name}"] = lambda pid=pid: _asked(f"/proc/{pid}/root{aim.admin_socket}")
    return ways


def _greeting(family: int, kind: int, address: object) -> Callable[[], bytes]:
    """Return a way that takes what a service says to everybody who connects or sends a word."""

    def greeted() -> bytes:
        with socket.socket(family, kind) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(address)  # pyright: ignore[reportArgumentType]
            if kind == socket.SOCK_DGRAM:
                sock.send(b"\0\1\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1")  # a question of DNS
            return sock.recv(200)

    return greeted


@attack
def reaches_local_services(aim: Aim) -> Ways:
    return {
        "over TCP": _greeting(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", aim.tcp_port)),
        "over TCP, another address": _greeting(socket.AF_INET, socket.SOCK_STREAM, ("127.1.2.3", aim.tcp_port)),
        "the agents' port": lambda: _connected("127.0.0.1", aim.http_port),
    }


def _connected(host: str, port: int) -> str:
    with socket.create_connection((host, port), PATIENCE):
        return f"connected to {host}:{port}"


@attack
def sends_datagrams_and_dns(aim: Aim) -> Ways:
    return {"over UDP": _greeting(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", aim.udp_port))}


@attack
def reaches_other_services_sockets(aim: Aim) -> Ways:
    """Reach a service of the same user, as ssh-agent, D-Bus and Docker are: it may do what the mod may not."""
    return {
        "by path": _greeting(socket.AF_UNIX, socket.SOCK_STREAM, aim.service_path),
        "by abstract name": _greeting(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{aim.service_name}"),
    }


@attack
def listens_to_the_wire(aim: Aim) -> Ways:
    def raw(family: int, kind: int, protocol: int) -> str:
        with socket.socket(family, kind, protocol):
            return "a raw socket"

    return {
        "packets": lambda: raw(socket.AF_PACKET, socket.SOCK_RAW, 0x300),
        "ICMP": lambda: raw(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "ICMPv6": lambda: raw(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    }


@attack
def opens_sockets_of_rare_kinds(aim: Aim) -> Ways:
    """Open sockets that no network namespace holds, or whose code is seldom used."""

    def opened(family: int, kind: int = socket.SOCK_DGRAM) -> str:
        with socket.socket(family, kind):
            return "open"

    kinds = {
        "vsock": (socket.AF_VSOCK, socket.SOCK_STREAM),
        "the kernel's ciphers": (socket.AF_ALG, socket.SOCK_SEQPACKET),
        "keys of IPsec": (15, socket.SOCK_RAW),
        "Bluetooth": (31, socket.SOCK_RAW),
        "CAN": (socket.AF_CAN, socket.SOCK_RAW),
        "TIPC": (30, socket.SOCK_STREAM),
        "XDP": (44, socket.SOCK_RAW),
    }
    return {name: lambda each=each: opened(*each) for name, each in kinds.items()}


@attack
def passes_descriptors_to_a_sibling(aim: Aim) -> Ways:
    """Give another mod an open file: the way by which two mods share what one of them may open."""

    def passed(address: str) -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(address)
            socket.send_fds(sock, [b"+"], [0])
            return sock.recv(100)

    return {
        "by path": lambda: passed(aim.sibling_path),
        "by abstract name": lambda: passed(f"\0{aim.sibling_name}"),
    }


@attack
def leaves_its_network(aim: Aim) -> Ways:
    """Enter a network of its own, where it may do everything, and look for a way out."""

    def inside() -> bytes:
        calls.become_root_of_a_user_namespace()
        calls.unshare(calls.CLONE_NEWNET)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x300):
            return b"a network of its own, with raw sockets"

    return {"a new namespace": apart(inside)}
