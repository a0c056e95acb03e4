"""The client against servers that misbehave, and start-up without what a short command does not need."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modvisor.supervisor.cli.client.client import Client, peer_pid
from modvisor.supervisor.cli.client.target import Target
from modvisor.supervisor.cli.terminal.exits import CliError, ExitCode

from .conftest import Served

Serve = Callable[[bytes], Client]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A server that answers one request with the given bytes, then closes; with none it never answers."""
    done = threading.Event()
    with contextlib.ExitStack() as stack:

        def serve(answer: bytes) -> Client:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(tmp_path / "s.sock"))
            listening.listen()

            def run() -> None:
                with listening.accept()[0] as connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    if not answer:
                        done.wait()

            thread = threading.Thread(target=run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(done.set)
            return Client(Target(socket=tmp_path / "s.sock", what="demo"))

        yield serve


def http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (b"", ExitCode.NO_ANSWER, "did not answer within 0.05 seconds"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", ExitCode.NO_ANSWER, "went away"),
        (b"SSH-2.0-x\r\n", ExitCode.NO_ANSWER, "went away"),
        (http("200 OK", b"<html>"), ExitCode.FAILED, "is it a modvisor network"),
        (http("500 Oops", b"<html>"), ExitCode.FAILED, "demo answered HTTP 500: <html>"),
        (
            http("404 x", b'{"success": false, "message": "no", "data": {"error": "no_such_mod"}}'),
            ExitCode.FAILED,
            r"no \(no_such_mod\)",
        ),
        (http("403 x", b'{"success": false, "data": {"error": "forbidden"}}'), ExitCode.NOT_ALLOWED, "forbidden"),
        (http("200 x", b'{"success": false, "data": {"error": "forbidden"}}'), ExitCode.FAILED, "forbidden"),
    ],
)
def test_answers_that_are_none(serve: Serve, answer: bytes, code: ExitCode, message: str) -> None:
    client = serve(answer)
    with pytest.raises(CliError, match=message) as raised:
        client.get("/mods", timeout=0.05 if not answer else 10.0)
    assert raised.value.code is code
    assert raised.value.document()["success"] is False


def test_a_stream_that_breaks_off_is_no_end(serve: Serve) -> None:
    line = json.dumps({"line": "one"}).encode() + b"\n"
    client = serve(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + f"{len(line):x}\r\n".encode() + line + b"\r\n"
    )
    stream = client.stream("/mods/x/log")
    assert next(stream) == {"line": "one"}
    with pytest.raises(CliError, match="went away"):
        next(stream)


def test_nobody_behind_a_socket_that_is_there(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s.sock"))
    client = Client(Target(socket=tmp_path / "s.sock", what="demo", start="start it"))
    with pytest.raises(CliError, match=r"no network is running for demo \(nobody listens at .*s.sock\); start it"):
        client.get("/mods")
    assert peer_pid(tmp_path / "s.sock") is None


def test_a_server_that_does_not_speak_tls_is_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with listening.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(CliError, match=f"no network is running for {url}"):
            Client(Target(url=url)).get("/mods")
        thread.join()


TELL = """
import sys
from modvisor.supervisor.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
wanted = set(sys.stdin.read().split())
loaded = set(sys.modules)
print("|", *sorted(wanted & loaded))
"""
NEVER = (
    "asyncio anyio httpx http.client email ssl yaml msgpack msgspec psutil starlette uvicorn uvloop sqlite3 resolvelib"
)
OTHERS = [f"modvisor.supervisor.cli.commands.{name}" for name in ("dlq", "events", "life", "scaffold")]


@pytest.mark.parametrize(
    ("command", "unused"),
    [("--json ps", ["rich", *OTHERS]), ("ps", ["rich", *OTHERS]), ("version", ["rich", "h11", "socket", *OTHERS[:2]])],
)
def test_a_command_imports_what_it_uses_and_no_more(asked: Served, command: str, unused: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TELL, *command.split()],
        input=" ".join([NEVER, *unused]), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout.rpartition("|")[2].split() == []
    assert "modvisor" in done.stdout or "echo" in done.stdout


def test_the_packages_of_the_network_import_late() -> None:
    script = (
        "import sys; before = set(sys.modules); import modvisor.supervisor; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert [name for name in done.stdout.split() if name.startswith("modvisor")] == ["modvisor", "modvisor.supervisor"]
    assert not set(NEVER.split()) & set(done.stdout.split())
