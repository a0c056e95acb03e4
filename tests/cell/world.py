"""A network with secrets in every place, of a user who may be root, and an attacker in it under each profile."""

from __future__ import annotations

import ctypes
import json
import os
import pty
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

import modvisor
from tests import warm

from .table import ROOT

MODS = Path(__file__).with_name("mods")
ROOM = Path(__file__).parents[2]

Results = dict[str, dict[str, dict[str, str]]]
"""What the ways of each attack got, and why they failed."""


def canary(kind: str) -> str:
    return f"canary-{kind}-{uuid.uuid4().hex}"


class World:
    """Attributes:
    user: ``root`` or ``user``.
    is_warm: fork the network's process from one that has imported all (`tests.warm`). Its first variables are that
        one's, so it has no secret among them.
    secrets: the canaries, by where they are.
    known: what the attacker knows.
    """

    def __init__(self, user: str, network: str = "", *, is_warm: bool = False) -> None:
        self.user = user
        self._is_warm = is_warm
        self.uid = os.geteuid() if user == ROOT or os.geteuid() else random.randrange(61184, 65519)
        self.secrets = {
            kind: canary(kind) for kind in ("network", "environ", "memory", "sibling", "private", "service", "log")
        }
        self.number = f"n{uuid.uuid4().hex[:12]}"  # never a number to YAML
        self.folder = Path(tempfile.mkdtemp(prefix="modvisor-cell-"))
        self.folder.chmod(0o755)
        self._sockets: list[socket.socket] = []
        self._master, self._slave = pty.openpty()
        self._write_files(network)
        self.known: dict[str, Any] = self._services()
        self._start()

    # -- what there is before the network

    def _write_files(self, network: str) -> None:
        for name in ("net", "home", "shared", "bare", "outside"):
            (self.folder / name).mkdir()
        shutil.copytree(MODS, self.folder / "net/mods", ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "home/private").write_text(self.secrets["private"])
        (self.folder / "net/secret.env").write_text(self.secrets["sibling"])
        (self.folder / "net/memory").write_text(self.secrets["memory"])
        text = f"""
            # {self.secrets["network"]}
            network: {{name: cell, storage: state, port: 0{network}}}
            agents: {{expire_after: null}}
            mods:
              - path: ./victim
                required: true
                sandbox: 'off'
                env: {{SECRET: {{from: 'file:secret.env'}}}}
                config: {{number: {self.number}, shared: {self.folder}/shared, log: {self.secrets["log"]}}}
        """
        (self.folder / "net/network.yaml").write_text(textwrap.dedent(text))
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, self.uid, self.uid)
            is_code = "mods" in path.parts  # which a mod with a uid of its own reads, too
            path.chmod(0o755 if path.is_dir() else 0o644 if is_code else 0o600)

    def _services(self) -> dict[str, Any]:
        """Start services of the host: everything of the user may reach them, as agents of ssh and buses."""
        tcp, udp = socket.create_server(("", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        path, abstract = self.folder / "shared/service", f"modvisor-service-{self.number}"
        for listening, address in (
            (socket.socket(socket.AF_UNIX), str(path)),
            (socket.socket(socket.AF_UNIX), f"\0{abstract}"),
        ):
            listening.bind(address)
            listening.listen(50)
            self._sockets.append(listening)
        os.chown(path, self.uid, self.uid)
        self._sockets += [tcp, udp]
        for listening in self._sockets:
            threading.Thread(target=self._greet, args=(listening,), daemon=True).start()
        return {
            "tcp_port": tcp.getsockname()[1],
            "udp_port": udp.getsockname()[1],
            "service_path": str(path),
            "service_name": abstract,
        }

    def _greet(self, listening: socket.socket) -> None:
        greeting = self.secrets["service"].encode()
        with suppress(OSError):
            while True:
                if listening.type == socket.SOCK_DGRAM:
                    _, address = listening.recvfrom(1000)
                    listening.sendto(greeting, address)
                else:
                    with listening.accept()[0] as sock:
                        sock.send(greeting)

    # -- the network

    def _start(self) -> None:
        terminal = os.ttyname(self._slave)
        os.chown(terminal, self.uid, -1)
        variables = {"PATH": os.environ["PATH"], **warm.read_at_start(os.environ)}
        variables |= {"SUPERVISORS": self.secrets["environ"], "MEMORY_FILE": str(self.folder / "net/memory")}
        self._process = self._python(
            "tests.cell.host",
            str(self.folder / "net/network.yaml"),
            terminal,
            env=variables,
        )
        where = self._answer()
        (self.folder / "net/memory").unlink()
        self.known |= where | {
            "number": self.number,
            "network_file": str(self.folder / "net/network.yaml"),
            "env_file": str(self.folder / "net/secret.env"),
            "private_file": str(self.folder / "home/private"),
            "sibling_code": str(self.folder / "net/mods/victim"),
            "house": str(Path(modvisor.__file__).parent),
            "site_packages": str(Path(psutil.__file__).parents[1]),
            "terminal": terminal,
            "journal_handle": _handle(where["journal"]),
            "is_hidden": False,
            "supervisor_uid": self.uid,
        }
        self.known |= self.sent("victim.where", "mod:victim")["data"]
        self.known["folders"] = [[found.st_dev, found.st_ino] for found in map(os.stat, self._folders())]
        self.known |= _control_groups(self.known["supervisor"], self.known["sibling"])

    def _folders(self) -> list[str]:
        """The folders that attacks try to write to."""
        names = ("state", "snapshots", "marks", "sibling_storage", "sibling_code", "house", "site_packages")
        return [
            *(self.known[name] for name in names),
            *map(str, (self.folder, self.folder / "net", self.folder / "home")),
        ]

    def _python(self, module: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", module, *arguments, str(self.uid)]
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOM}
        if self._is_warm:
            return warm.Popen(words, env=env, **streams)
        return subprocess.Popen(words, env=env, text=True, start_new_session=True, **streams)

    def ask(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the network has ended"
        return json.loads(line)

    def sent(self, name: str, to: str, **payload: Any) -> dict[str, Any]:
        """Send an event from inside; return its response."""
        event = {"event_name": name, "source_id": "agent:alice", "destination_id": to, "payload": payload}
        answer = self.ask(event=event)
        assert answer["success"], answer
        return answer

    # -- the attacker

    def load(self, mod_id: str, **more: Any) -> dict[str, Any]:
        """Load an attacker under an id of its own."""
        answer = self.ask(do="load_mod", args=["./attacker"], more={"mod_id": mod_id, **more})
        assert answer["success"], answer
        return answer["data"]

    def attacked(self, mod_id: str, names: list[str], **more: Any) -> Results:
        """Have this attacker try these attacks."""
        return self._seen(self.sent("attack.try", f"mod:{mod_id}", names=names, known=self.known | more)["data"])

    def replace_files(self) -> None:
        """Replace the files of the operator by copies, as an editor does."""
        for name in ("network.yaml", "secret.env"):
            path, new = self.folder / "net" / name, self.folder / "net" / f"{name}.new"
            shutil.copy2(path, new)
            os.chown(new, self.uid, self.uid)
            new.replace(path)

    def attacked_bare(self, names: list[str]) -> Results:
        """Have a process of the user try these attacks, which no network started."""
        known = {**self.known, "storage": str(self.folder / "bare"), "warden": self.known["sibling_warden"]}
        out, _ = self._python("tests.cell.bare").communicate(json.dumps({"known": known, "names": names}, default=list))
        return self._seen(json.loads(out))

    def _seen(self, results: Results) -> Results:
        """Take a file in /tmp for what it is: the mod may have a /tmp of its own."""
        if (found := results.get("writes_into_the_common_temporary_folder")) is not None:
            for way, path in list(found["got"].items()):
                if not Path(path).exists():
                    found["failed"][way] = f"nobody else sees {found['got'].pop(way)}"
        return results

    def is_alive(self) -> bool:
        return self._process.poll() is None and self.sent("victim.who", "mod:victim")["success"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
        for each in self._sockets:
            each.close()
        os.close(self._slave)
        os.close(self._master)
        for planted in Path("/tmp").glob(f"modvisor-planted-{self.number}-*"):
            planted.unlink()
        shutil.rmtree(self.folder)


def _handle(path: str) -> tuple[int, list[int]]:
    """Return the handle of a file, as open_by_handle_at(2) takes it."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle, mount = ctypes.create_string_buffer(8 + 128), ctypes.c_int()
    ctypes.c_uint.from_buffer(handle).value = 128
    if libc.name_to_handle_at(-100, path.encode(), handle, ctypes.byref(mount), 0) != 0:
        return 0, []
    size, kind = ctypes.c_uint.from_buffer(handle).value, ctypes.c_int.from_buffer(handle, 4).value
    return kind, list(handle.raw[8 : 8 + size])


def _control_groups(supervisor: int, sibling: int) -> dict[str, str]:
    root = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"

    def folder(pid: int) -> str:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        return root + next((line[3:] for line in lines if line.startswith("0::")), "")

    return {
        "cgroup": folder(supervisor).rstrip("/"),
        "sibling_cgroup": folder(sibling).rstrip("/"),
        "cgroup_root": root,
    }
