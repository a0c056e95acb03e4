"""Attacks on other processes: signals, memory, variables, descriptors, priorities."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import resource
import signal
import socket
from pathlib import Path

from . import calls
from .ways import Aim, Way, Ways, apart, attack

HARMLESS = signal.SIGURG
"""The signal that is sent: a process that does not ask for it never notices. The right to send it is
that to send SIGKILL."""

_PTRACE_SEIZE = 0x4206


def _signals_to(pid: int) -> Ways:
    """Return the ways to signal a process."""

    def by_pidfd() -> str:
        process = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(process, HARMLESS)
        finally:
            os.close(process)
        return "sent"

    def by_owner() -> str:
        """Have the kernel send it, when a socket becomes readable, to whom we say owns the socket."""
        here, there = socket.socketpair()
        with here, there:
            fcntl.fcntl(here, fcntl.F_SETOWN, pid)
            fcntl.fcntl(here, fcntl.F_SETSIG, HARMLESS)
            if fcntl.fcntl(here, fcntl.F_GETOWN) != pid:
                raise ProcessLookupError("no such owner")
            os.kill(pid, 0)  # the kernel asks the same of who the owner is signalled by
            return "sent"

    return {
        "by kill": lambda: os.kill(pid, HARMLESS) or "sent",
        "by its group": lambda: os.killpg(os.getpgid(pid), HARMLESS) or "sent",
        "by its thread": lambda: str(calls.syscall("tgkill", pid, pid, int(HARMLESS))),
        "by its descriptor": by_pidfd,
        "by the owner of a socket": by_owner,
    }


@attack
def signals_the_supervisor(aim: Aim) -> Ways:
    return _signals_to(aim.supervisor)


@attack
def signals_the_guardian(aim: Aim) -> Ways:
    return _signals_to(aim.guardian)


@attack
def signals_a_sibling(aim: Aim) -> Ways:
    return _signals_to(aim.sibling) | {
        f"{name} to its warden": way for name, way in _signals_to(aim.sibling_warden).items()
    }


def _memory_of(pid: int, address: int, size: int) -> Ways:
    def by_file() -> bytes:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, address)

    return {"by /proc/PID/mem": by_file, "by process_vm_readv": lambda: calls.read_memory(pid, address, size)}


@attack
def reads_the_supervisors_memory(aim: Aim) -> Ways:
    return _memory_of(aim.supervisor, aim.supervisor_address, 100)


@attack
def reads_a_siblings_memory(aim: Aim) -> Ways:
    return _memory_of(aim.sibling, aim.sibling_address, 100)


@attack
def writes_the_guardians_memory(aim: Aim) -> Ways:
    """Change the process that all workers are forked from."""

    def writable() -> int:
        with open(f"/proc/{aim.guardian}/maps") as maps:
            return int(next(line for line in maps if " rw-p " in line).partition("-")[0], 16)

    def by_file() -> str:
        address = writable()
        with open(f"/proc/{aim.guardian}/mem", "r+b", buffering=0) as file:
            data = os.pread(file.fileno(), 4, address)
            return f"its memory is open for writing; it begins with {data!r}"

    def by_call() -> str:
        calls.read_memory(aim.guardian, writable(), 4)
        return "its memory can be written"

    return {"by /proc/PID/mem": by_file, "by process_vm_writev": by_call}


@attack
def uses_its_warden(aim: Aim) -> Ways:
    """Use the process above its own, which has more rights."""
    warden = aim.warden

    def opened() -> str:
        names = os.listdir(f"/proc/{warden}/fd")
        for name in names:
            os.close(os.open(f"/proc/{warden}/fd/{name}/.", os.O_PATH))
        return f"{len(names)} descriptors"

    def taken() -> str:
        process = os.pidfd_open(warden)
        try:
            os.close(calls.syscall("pidfd_getfd", process, 3, 0))
        finally:
            os.close(process)
        return "a descriptor"

    return {
        "its open folders": opened,
        "one of its descriptors": taken,
        "its root": lambda: ", ".join(os.listdir(f"/proc/{warden}/root/")),
        "its variables": lambda: Path(f"/proc/{warden}/environ").read_bytes()[:100] or b"none",
        "its memory": lambda: str(os.close(os.open(f"/proc/{warden}/mem", os.O_RDWR))),
        "under a debugger": _traced(warden),
    }


def _traced(pid: int) -> Way:
    def trace() -> str:
        calls.checked(calls.libc.ptrace(_PTRACE_SEIZE, pid, None, None))
        return "traced"

    return apart(trace)


@attack
def traces_processes(aim: Aim) -> Ways:
    pids = {
        "supervisor": aim.supervisor,
        "guardian": aim.guardian,
        "sibling": aim.sibling,
        "its warden": aim.sibling_warden,
    }
    return {f"the {name}": _traced(pid) for name, pid in pids.items()}


@attack
def reads_the_supervisors_variables(aim: Aim) -> Ways:
    return {
        "its environ": lambda: _with_secret(Path(f"/proc/{aim.supervisor}/environ").read_bytes()),
        "the own environ": lambda: _with_secret(Path("/proc/self/environ").read_bytes()),
        "the own variables": lambda: _with_secret(repr(os.environ).encode()),
    }


def _with_secret(data: bytes) -> bytes:
    if (found := _SECRET.search(data)) is None:
        raise LookupError(f"no secret in {len(data)} bytes")
    return found[0]


# Written so that it does not match itself: it is looked for in this process's own memory.
_SECRET = re.compile(b"can" + b"ary-(?:environ|memory|sibling|network|journal)-[0-9a-f]{32}")


@attack
def finds_secrets_in_its_own_memory(aim: Aim) -> Ways:
    """Look for what the guardian held when this process was forked."""

    def found() -> bytes:
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
            for line in maps:
                begin, end = (int(number, 16) for number in line.split()[0].split("-"))
                if line.split()[1].startswith("rw") and "/" not in line and end - begin < 1 << 26:
                    data = os.pread(memory.fileno(), end - begin, begin)
                    if (match := _SECRET.search(data)) is not None:
                        return match[0]
        raise LookupError("no secret")

    return {"all of it": found}


@attack
def lists_the_programs_of_others(aim: Aim) -> Ways:
    def listed(pid: int) -> bytes:
        return Path(f"/proc/{pid}/cmdline").read_bytes() or b"its name is hidden"

    def all_of_them() -> str:
        names = [name for name in os.listdir("/proc") if name.isdecimal()]
        if str(aim.supervisor) not in names:
            raise LookupError(f"only {len(names)} processes")
        return f"{len(names)} processes"

    return {"the supervisor's command": lambda: listed(aim.supervisor), "all processes": all_of_them}


@attack
def takes_descriptors_of_others(aim: Aim) -> Ways:
    """Take the supervisor's open journal, or the sockets of others."""

    def by_call(pid: int, fd: int) -> str:
        process = os.pidfd_open(pid)
        try:
            os.close(calls.syscall("pidfd_getfd", process, fd, 0))
        finally:
            os.close(process)
        return "a descriptor"

    def by_path(pid: int, fd: int) -> str:
        os.close(os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK))
        return "a descriptor"

    return {
        "the journal by pidfd_getfd": lambda: by_call(aim.supervisor, aim.journal_fd),
        "the journal by /proc/PID/fd": lambda: by_path(aim.supervisor, aim.journal_fd),
        "the sibling's by pidfd_getfd": lambda: by_call(aim.sibling, 1),
    }


@attack
def slows_others_down(aim: Aim) -> Ways:
    """Set limits and priorities of others; here to what they are."""

    def limited(pid: int) -> str:
        resource.prlimit(pid, resource.RLIMIT_CPU, resource.prlimit(pid, resource.RLIMIT_CPU))
        return "its limits can be set"

    def placed(pid: int) -> str:
        os.sched_setaffinity(pid, os.sched_getaffinity(pid))
        return "its processors can be chosen"

    def nice(pid: int) -> str:
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid))
        return "its priority can be set"

    def offered(pid: int) -> str:
        with open(f"/proc/{pid}/oom_score_adj", "r+") as file:
            return f"{file.read().strip()} is open for writing"

    ways: Ways = {}
    for name, pid in {"the supervisor": aim.supervisor, "a sibling": aim.sibling}.items():
        for what, way in {"limits": limited, "processors": placed, "priority": nice, "score": offered}.items():
            ways[f"the {what} of {name}"] = lambda way=way, pid=pid: way(pid)
    return ways


@attack
def watches_others_by_perf(aim: Aim) -> Ways:
    def opened(pid: int) -> str:
        attributes = ctypes.create_string_buffer(128)
        ctypes.c_uint.from_buffer(attributes, 0).value = 1  # PERF_TYPE_SOFTWARE
        ctypes.c_uint.from_buffer(attributes, 4).value = 128
        ctypes.c_ulong.from_buffer(attributes, 40).value = 0b1100000  # exclude kernel and hypervisor
        os.close(calls.syscall("perf_event_open", attributes, pid, -1, -1, 0))
        return "a counter"

    return {"the supervisor": lambda: opened(aim.supervisor), "a sibling": lambda: opened(aim.sibling)}


@attack
def dumps_its_core(aim: Aim) -> Ways:
    def raised() -> str:
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        return "a core of 1 MB may be written"

    def dumpable() -> str:
        if calls.libc.prctl(3, 0, 0, 0, 0) == 0:
            raise PermissionError("the process is not dumpable")
        raised()
        return "the process is dumpable"

    return {"of one megabyte": raised, "as it is": dumpable}


@attack
def runs_a_shell(aim: Aim) -> Ways:
    def run(path: str, *arguments: str) -> Way:
        def execute() -> bytes:
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    os.dup2(writing, 1)
                    os.execv(path, [path, *arguments])
                except OSError as error:
                    os.write(writing, f"-{error}".encode())
                finally:
                    os._exit(1)
            os.close(writing)
            with open(reading, "rb") as pipe:
                data = pipe.read()
            os.waitpid(pid, 0)
            if not data or data.startswith(b"-"):
                raise PermissionError(data[1:].decode("utf-8", "replace") or "it printed nothing")
            return data

        return execute

    def from_memory() -> bytes:
        fd = os.memfd_create("program", 0)
        with open("/bin/echo", "rb") as program:
            os.write(fd, program.read())
        return run(f"/proc/self/fd/{fd}", "ran")()

    def copied() -> bytes:
        path = os.path.join(aim.storage, "program")
        with open("/bin/echo", "rb") as program, open(path, "wb") as file:
            file.write(program.read())
        os.chmod(path, 0o700)
        return run(path, "ran")()

    loaders = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
    loader = next((path for path in loaders if os.path.exists(path)), loaders[0])
    return {
        "a shell": run("/bin/sh", "-c", "echo ran"),
        "by the loader": run(loader, "/bin/echo", "ran"),
        "a copy in the storage": copied,
        "from memory": from_memory,
    }
