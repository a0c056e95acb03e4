"""System calls that Python has no function for. Each raises OSError as Python's own do."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.shmat.restype = ctypes.c_void_p
libc.ptrace.restype = ctypes.c_long
libc.process_vm_readv.restype = ctypes.c_ssize_t

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2

_ANYWHERE = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430, "pidfd_open": 434,
    "clone3": 435, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "landlock_create_ruleset": 444,
    "memfd_secret": 447, "fchmodat2": 452, "lsm_list_modules": 461,
}  # fmt: skip
_BY_MACHINE = {
    "x86_64": {
        "add_key": 248, "request_key": 249, "keyctl": 250, "perf_event_open": 298, "bpf": 321, "userfaultfd": 323,
        "kexec_load": 246, "init_module": 175, "tgkill": 234, "open_by_handle_at": 304, "name_to_handle_at": 303,
        "kcmp": 312, "ioprio_set": 251, "iopl": 172, "syslog": 103, "chmod": 90, "acct": 163, "swapon": 167,
        "settimeofday": 164, "quotactl": 179, "migrate_pages": 256, "move_pages": 279,
    },
    "aarch64": {
        "add_key": 217, "request_key": 218, "keyctl": 219, "perf_event_open": 241, "bpf": 280, "userfaultfd": 282,
        "kexec_load": 104, "init_module": 105, "tgkill": 131, "open_by_handle_at": 265, "name_to_handle_at": 264,
        "kcmp": 272, "ioprio_set": 30, "syslog": 116, "acct": 89, "swapon": 224, "settimeofday": 170, "quotactl": 60,
        "migrate_pages": 238, "move_pages": 239,
    },
}  # fmt: skip
NUMBERS = {**_ANYWHERE, **_BY_MACHINE.get(os.uname().machine, {})}


def checked(result: int) -> int:
    """Return the result of a call of the C library; raise OSError for -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(name: str, *arguments: object) -> int:
    """Make a system call by its name."""
    return checked(
        libc.syscall(NUMBERS[name], *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments))
    )


def unshare(flags: int) -> None:
    checked(libc.unshare(flags))


def mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    checked(libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None))


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    checked(libc.umount2(target.encode(), flags))


def become_root_of_a_user_namespace() -> None:
    """Enter a user namespace in which this process has every capability. It needs no name there for that."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with suppress(OSError), open(f"/proc/self/{name}", "w") as file:
            file.write(text)


class Vector(ctypes.Structure):
    """``struct iovec``"""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def read_memory(pid: int, address: int, size: int) -> bytes:
    """Read another process's memory by process_vm_readv(2)."""
    buffer = ctypes.create_string_buffer(size)
    here, there = Vector(ctypes.addressof(buffer), size), Vector(address, size)
    checked(libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
    return buffer.raw


def write_memory(pid: int, address: int, data: bytes) -> None:
    """Write another process's memory by process_vm_writev(2)."""
    buffer = ctypes.create_string_buffer(data, len(data))
    here, there = Vector(ctypes.addressof(buffer), len(data)), Vector(address, len(data))
    checked(libc.process_vm_writev(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
