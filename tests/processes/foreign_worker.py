"""A worker of another framework, as small as can be: it holds a mirror, and says what it sees.

It knows the protocol and nothing of modvisor. Its config: ``host`` and ``mirror`` (as in the
protocol), ``early`` and ``late`` (requests that it sends while it loads, and while it shuts down).
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from typing import Any

import msgpack


class Worker:
    def __init__(self, sock: socket.socket) -> None:
        self.stream = sock.makefile("rwb")
        self.asked = 0
        self.process = os.urandom(8).hex()
        self.answers: dict[int, Any] = {}
        self.agents: dict[str, Any] = {}
        self.channels: dict[str, list[str]] = {}
        self.changes: list[Any] = []
        self.is_complete = False
        self.config: dict[str, Any] = {}
        self.waiting: list[Any] = []
        self.early: list[Any] = []

    # -- the pipe

    def send(self, *message: Any) -> None:
        body = msgpack.packb(message)
        self.stream.write(struct.pack(">I", len(body)) + body)
        self.stream.flush()

    def receive(self) -> Any:
        head = self.stream.read(4)
        if len(head) < 4:
            sys.exit()
        return msgpack.unpackb(self.stream.read(struct.unpack(">I", head)[0]), strict_map_key=False)

    def ask(self, method: str, params: Any) -> int:
        self.asked += 1
        self.send(0, self.asked, method, params)
        return self.asked

    def answer_to(self, request: int) -> Any:
        while request not in self.answers:
            self.take(self.receive())
        return self.answers.pop(request)

    def take(self, message: Any) -> None:
        """Take a message while an answer is waited for: requests other than pings are kept for later."""
        kind, first, *rest = message
        if kind == 1:
            error, result = rest
            self.answers[first] = result if error is None else {"refused": error["code"], "message": error["message"]}
        elif kind == 2:
            self.noted(first, rest[0])
        elif rest[0] == "ping":
            self.send(1, first, None, None)
        else:
            self.waiting.append(message)

    # -- the mirror

    def noted(self, method: str, params: Any) -> None:
        if method == "mirror":
            for agent in params["agents"]:
                self.agents[agent["agent_id"]] = [agent["metadata"], agent["group"]]
            for name, members in params["channels"].items():
                self.channels.setdefault(name, []).extend(members)
            self.is_complete = params["last"]
        elif method == "changes":
            for change in params["changes"]:
                self.changes.append(change)
                self.changed(*change)

    def changed(self, kind: str, name: str, *more: Any) -> None:
        members = self.channels.get(name, [])
        if kind == "agent":
            self.agents[name] = list(more)
        elif kind == "gone":
            self.agents.pop(name, None)
        elif kind == "join" and more[0] not in members:
            self.channels.setdefault(name, []).append(more[0])
        elif kind == "leave" and more[0] in members:
            members.remove(more[0])
        if (kind == "leave" and not members) or kind == "close":
            self.channels.pop(name, None)

    # -- the mod

    def load(self, params: Any) -> Any:
        self.config, self.network_id = params["config"], params["network_id"]
        if self.config.get("mirror", True):
            refused = self.answer_to(self.ask("mirror", None))
            assert refused is None, refused
            assert self.is_complete
        requests = [self.ask(*each) for each in self.config.get("early", [])]
        self.early = [self.answer_to(each) for each in requests]
        return {
            "mod_class": "foreign",
            "version": "1.0",
            "description": "",
            "file": __file__,
            "patterns": self.config.get("patterns", ["foreign.*"]),
            "observes": [],
            "resumable": True,
            "enforced": {},
            "host": self.config.get("host", "openagents"),
        }

    def event(self, params: Any) -> Any:
        event = params["event"]
        name, payload = event["event_name"], event.get("payload", {})
        data: Any = {"pid": self.process, "event": event}
        if name == "foreign.show":
            data |= {"agents": self.agents, "channels": self.channels, "changes": self.changes}
            data |= {"early": self.early, "network_id": self.network_id}
        elif name == "foreign.ask":  # all at once, as a mod does that waits for none of them
            requests = [self.ask(*each) for each in payload["requests"]]
            data["seen"] = self.channels
            data["answers"] = [self.answer_to(each) for each in requests]
        elif name == "foreign.sleep":
            time.sleep(payload["seconds"])
        elif name == "foreign.crash":
            os._exit(3)
        elif name == "foreign.pass":
            return None
        return {"response": {"success": True, "data": data}}

    def run(self) -> None:
        self.send(2, "hello", {"protocol": 1, "pid": os.getpid(), "python": "raw", "modvisor": "1", "shelf": False})
        while True:
            message = self.waiting.pop(0) if self.waiting else self.receive()
            if message[0] != 0:
                self.take(message)
                continue
            _, number, method, params = message
            if method == "shutdown":
                for request in [self.ask(*each) for each in self.config.get("late", [])]:
                    print("late:", self.answer_to(request), flush=True)
            try:
                result = {
                    "load": self.load,
                    "event": self.event,
                    "snapshot": lambda _params: {},
                    "get_state": lambda _params: {"state": None, "version": "1.0"},
                    "notify": lambda _params: {"failed": 0},
                }.get(method, lambda _params: None)(params)
            except AssertionError as error:
                self.send(1, number, {"code": "initialize_failed", "message": str(error), "details": {}}, None)
                continue
            self.send(1, number, None, result)
            if method == "shutdown":
                return


Worker(socket.socket(fileno=int(sys.argv[-3]))).run()
