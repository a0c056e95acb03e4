"""The other mod: it has secrets in every place that a mod may have them in."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from pathlib import Path

from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.syscall.restype = ctypes.c_long
_ADD_KEY = {"x86_64": 248, "aarch64": 217}.get(os.uname().machine, 248)


class Victim(BaseMod):
    def initialize(self) -> None:
        secret = os.environ["SECRET"]
        print(self.config["log"], flush=True)
        self.memory = ctypes.create_string_buffer(secret.encode())
        (self.context.storage_path / "secret").write_text(secret)
        number = self.config["number"]
        self.shared = Path(f"/dev/shm/modvisor-{number}")
        self.shared.write_text(secret)
        self.segment = _segment(secret.encode())
        self.queue = libc.mq_open(f"/modvisor-{number}".encode(), os.O_RDWR | os.O_CREAT, 0o600, None)
        self.key = libc.syscall(_ADD_KEY, b"user", b"modvisor-test", secret.encode(), len(secret), -4)
        path = Path(self.config["shared"], f"{number}.sock")
        self.path, self.name = path, f"modvisor-{number}"
        for address in (str(path), f"\0{self.name}"):
            threading.Thread(target=_take_descriptors, args=(address,), daemon=True).start()

    @mod_event_handler("victim.where")
    def where(self, event: Event) -> EventResponse:
        """Say where the secrets are: an attacker may know that, or find out."""
        return EventResponse(
            True,
            data={
                "sibling": os.getpid(),
                "sibling_warden": os.getppid(),
                "sibling_address": ctypes.addressof(self.memory),
                "sibling_storage": str(self.context.storage_path),
                "sibling_shared": str(self.shared),
                "sibling_segment": self.segment,
                "sibling_key": self.key,
                "sibling_path": str(self.path),
                "sibling_name": self.name,
            },
        )

    @mod_event_handler("victim.who")
    def who(self, event: Event) -> EventResponse:
        return EventResponse(True, data=[event.source_id, event.via])

    def shutdown(self) -> None:
        self.shared.unlink(missing_ok=True)
        libc.shmctl(self.segment, 0, None)
        libc.mq_unlink(f"/{self.name}".encode())


def _segment(secret: bytes) -> int:
    segment = libc.shmget(0, 4096, 0o1600)
    where = libc.shmat(segment, None, 0)
    ctypes.memmove(where, secret, len(secret))
    return segment


def _take_descriptors(address: str) -> None:
    """Take whatever file another process passes."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        while True:
            sock, _ = listening.accept()
            with sock:
                _, fds, _, _ = socket.recv_fds(sock, 10, 1)
                sock.send(f"took {len(fds)}".encode())
                for fd in fds:
                    os.close(fd)
