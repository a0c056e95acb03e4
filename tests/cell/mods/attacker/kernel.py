"""Attacks on the kernel and on what processes of one user share through it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import socket
import termios
from pathlib import Path

from . import calls
from .ways import Aim, Ways, apart, attack

_KEYCTL_SEARCH, _KEYCTL_READ, _USER_KEYRING, _SESSION_KEYRING = 10, 11, -4, -3


@attack
def mounts_a_file_system(aim: Aim) -> Ways:
    def mounted() -> str:
        where = os.path.join(aim.storage, "mounted")
        os.makedirs(where, exist_ok=True)
        calls.mount("none", where, "tmpfs")
        calls.unmount(where)
        return "a file system was mounted"

    def opened() -> str:
        os.close(calls.syscall("fsopen", ctypes.c_char_p(b"tmpfs"), 0))
        return "a file system was begun"

    return {"by mount": mounted, "by fsopen": opened}


@attack
def makes_new_namespaces(aim: Aim) -> Ways:
    def made() -> str:
        calls.become_root_of_a_user_namespace()
        calls.unshare(calls.CLONE_NEWNS | calls.CLONE_NEWNET)
        return "every capability of a user namespace"

    def cloned() -> str:
        arguments = (ctypes.c_uint64 * 11)(calls.CLONE_NEWUSER, 0, 0, 0, 17)
        pid = calls.syscall("clone3", arguments, 88)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return "a child in a user namespace"

    return {"by unshare": apart(made), "by clone3": apart(cloned)}


@attack
def changes_its_root(aim: Aim) -> Ways:
    return {"chroot": apart(lambda: os.chroot(aim.storage) or "changed")}


@attack
def rules_the_machine(aim: Aim) -> Ways:
    """Ask for what only the administrator may do, in a way that changes nothing."""

    def named() -> str:
        name = socket.gethostname().encode()
        calls.checked(calls.libc.sethostname(name, len(name)))
        return "the machine can be renamed"

    def asked(name: str, *arguments: object) -> str:
        try:
            calls.syscall(name, *arguments)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                raise
            return f"{name} is allowed ({error})"
        return f"{name} is allowed"

    return {
        "its name": named,
        "a module": lambda: asked("init_module", None, 0, None),
        "another kernel": lambda: asked("kexec_load", 0, 0, None, 1 << 30),
        "accounting": lambda: asked("acct", ctypes.c_char_p(b"/nonexistent")),
    }


@attack
def raises_its_limits(aim: Aim) -> Ways:
    def raised() -> str:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard + 1))
        return "more open files"

    def urgent() -> str:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        return "before all others"

    def nicer() -> str:
        os.setpriority(os.PRIO_PROCESS, 0, -1)
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        return "a larger share"

    return {"open files": apart(raised), "scheduling": apart(urgent), "share": apart(nicer)}


@attack
def uses_io_uring(aim: Aim) -> Ways:
    """Make calls that no filter of calls sees."""

    def made() -> str:
        os.close(calls.syscall("io_uring_setup", 1, ctypes.create_string_buffer(120)))
        return "a ring"

    return {"io_uring_setup": made}


@attack
def loads_code_into_the_kernel(aim: Aim) -> Ways:
    def loaded() -> str:
        code = (ctypes.c_uint64 * 2)(0x00000000000000B7, 0x0000000000000095)  # r0 = 0; exit
        keep = ctypes.create_string_buffer(b"GPL")
        attributes = ctypes.create_string_buffer(128)
        ctypes.c_uint32.from_buffer(attributes, 0).value = 1  # a filter of a socket
        ctypes.c_uint32.from_buffer(attributes, 4).value = 2
        ctypes.c_uint64.from_buffer(attributes, 8).value = ctypes.addressof(code)
        ctypes.c_uint64.from_buffer(attributes, 16).value = ctypes.addressof(keep)
        os.close(calls.syscall("bpf", 5, attributes, 128))
        return "a program"

    return {"bpf": loaded}


@attack
def holds_up_the_kernel(aim: Aim) -> Ways:
    """Get a descriptor by which the kernel waits for this process in the middle of a call: a help in attacks on it."""

    def held() -> str:
        os.close(calls.syscall("userfaultfd", 0))
        return "a descriptor"

    return {"userfaultfd": held}


def _key(where: int) -> bytes:
    found = calls.syscall(
        "keyctl", _KEYCTL_SEARCH, where, ctypes.c_char_p(b"user"), ctypes.c_char_p(b"modvisor-test"), 0
    )
    buffer = ctypes.create_string_buffer(100)
    size = calls.syscall("keyctl", _KEYCTL_READ, found, buffer, 100)
    return buffer.raw[:size]


@attack
def reads_a_siblings_keys(aim: Aim) -> Ways:
    def by_number() -> bytes:
        buffer = ctypes.create_string_buffer(100)
        size = calls.syscall("keyctl", _KEYCTL_READ, aim.sibling_key, buffer, 100)
        return buffer.raw[:size]

    return {
        "in the user's keyring": lambda: _key(_USER_KEYRING),
        "in the session's keyring": lambda: _key(_SESSION_KEYRING),
        "by its number": by_number,
    }


@attack
def reads_a_siblings_shared_memory(aim: Aim) -> Ways:
    def segment() -> bytes:
        where = calls.libc.shmat(aim.sibling_segment, None, 0o10000)  # read only
        if where in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        data = ctypes.string_at(where, 60)
        calls.libc.shmdt(ctypes.c_void_p(where))
        if b"canary" not in data:
            raise LookupError("another segment")
        return data

    def listed() -> str:
        lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        if not any(line.split()[1] == str(aim.sibling_segment) for line in lines):
            raise LookupError(f"not among {len(lines)}")
        return f"{len(lines)} segments"

    def queued() -> str:
        os.close(calls.checked(calls.libc.mq_open(f"/modvisor-{aim.number}".encode(), os.O_RDONLY)))
        return "its queue is open"

    return {
        "of System V": segment,
        "the list of segments": listed,
        "of POSIX": lambda: Path(aim.sibling_shared).read_bytes()[:100],
        "its queue": queued,
    }


def _without_taking_it(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOCTTY)


@attack
def types_into_the_operators_terminal(aim: Aim) -> Ways:
    def typed() -> str:
        with open(aim.terminal, "r+b", buffering=0, opener=_without_taking_it) as terminal:
            fcntl.ioctl(terminal, termios.TIOCSTI, b" ")
        return "typed"

    def taken() -> str:
        os.setsid()
        fd = os.open(aim.terminal, os.O_RDWR)
        fcntl.ioctl(fd, termios.TIOCSTI, b" ")
        return "typed"

    def pasted() -> str:
        with open(aim.terminal, "r+b", buffering=0, opener=_without_taking_it) as terminal:
            fcntl.ioctl(terminal, 0x541C, b"\3")  # TIOCLINUX: paste what is selected
        return "pasted"

    return {"by TIOCSTI": typed, "as its own terminal": apart(taken), "by TIOCLINUX": pasted}


@attack
def opens_the_operators_terminal(aim: Aim) -> Ways:
    """Read what the operator types, and write what the terminal acts on."""

    def opened(path: str) -> str:
        os.close(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
        return f"{path} is open for reading and writing"

    return {"by its path": lambda: opened(aim.terminal), "as the own": lambda: opened("/dev/tty")}


@attack
def uses_up_what_the_user_may_have(aim: Aim) -> Ways:
    """Hold descriptors in flight, of which all processes of a user share a number: others can pass none then."""

    def parked() -> str:
        pairs, held = [], 0
        fds = [0] * 250
        try:
            while held < aim.supervisor_descriptors + 500:
                pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
                for _ in range(4):
                    socket.send_fds(pairs[-1][0], [b"+"], fds)
                    held += len(fds)
            return f"{held} descriptors in flight, more than the {aim.supervisor_descriptors} of the supervisor"
        except OSError as error:
            raise PermissionError(f"{held} descriptors in flight, then {error}") from None
        finally:
            for pair in pairs:
                for each in pair:
                    each.close()

    return {"descriptors in flight": parked}


@attack
def uses_up_watches_of_files(aim: Aim) -> Ways:
    """Hold all watches of files that a user may have, so that no other process of the user gets one."""

    def held() -> str:
        if os.geteuid() != aim.supervisor_uid or os.geteuid() == 0:  # root is not alone on its machine
            raise PermissionError("these are not the watches of the supervisor's user")
        fds = []
        try:
            while len(fds) < 900:
                fds.append(calls.checked(calls.libc.inotify_init1(0o2000000)))
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            return f"no more after {len(fds)}"
        finally:
            for fd in fds:
                os.close(fd)
        raise PermissionError("there are more")

    return {"inotify": held}
