"""Give up what a process may do beyond its user's rights, for itself and for all that it starts."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from .libc import checked, libc, prctl
from .refusal import NotEnforced, refused

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_MOST = 64  # more than any kernel has


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    """Two times effective, permitted and inheritable: 64 bits of each."""

    _fields_ = [("words", ctypes.c_uint32 * 6)]


def drop_all() -> str:
    """Drop every capability: bounding, ambient, inheritable, permitted, effective. Return the means."""
    leave_bounding_set()
    with suppress(NotEnforced):  # before Linux 4.3 there is no ambient set
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header, none = _Header(_VERSION_3, 0), _Sets()
    checked(libc.capset(ctypes.byref(header), ctypes.byref(none)), "capset")
    return "no capabilities"


def leave_bounding_set() -> None:
    """Keep root's programs, and those with capabilities of their own, from regaining them.

    Only who has CAP_SETPCAP may do that; who has not never had a capability to pass on. A guardian of
    root does it for all workers: the set is inherited, and itself it keeps what it has. A user namespace
    begins with a full one.
    """
    global _is_left
    if _is_left and os.geteuid() == 0:
        return
    drop, zero = libc.prctl, ctypes.c_ulong(0)
    for number in range(_MOST):
        if drop(_PR_CAPBSET_DROP, ctypes.c_ulong(number), zero, zero, zero):
            break  # EPERM, as said; EINVAL behind the last capability
    _is_left = os.geteuid() == 0


_is_left = False  # a process of root gets no further user namespace: `namespaces.wanted`


def forbid_new() -> str:
    """Have exec(2) give no rights any more: by setuid, setgid, or capabilities of files. Return the means."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return "no_new_privs"


def hide_memory() -> str:
    """Keep processes of the same user out of this one's memory, descriptors and environment."""
    prctl(_PR_SET_DUMPABLE, 0)
    return "non-dumpable"


def become(user: int) -> str:
    """Take this uid and gid, and no other group. Return the means."""
    leave_bounding_set()  # while it still may
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError as error:
        raise refused(f"setresuid {user}", error.errno or 0) from None
    return f"uid {user}"


def leave_session_keyring() -> None:
    """Take a new, empty session keyring instead of the one that was inherited."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if number is not None:
        libc.syscall(number, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING; a kernel without keys refuses
