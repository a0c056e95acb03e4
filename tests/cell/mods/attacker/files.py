"""Attacks on files: of the network, of the other mod, of the user and of the system."""

from __future__ import annotations

import ctypes
import os
import re
import stat
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import calls
from .ways import Aim, Way, Ways, apart, attack

_SIZE = 1 << 16


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.pread(fd, _SIZE, 0)
    finally:
        os.close(fd)


def _pids(aim: Aim) -> dict[str, int]:
    return {"the supervisor": aim.supervisor, "the guardian": aim.guardian, "the sibling": aim.sibling, "pid 1": 1}


def _ways_to(aim: Aim, path: str, use: Callable[[str], str | bytes] = _read) -> Ways:
    """Return the ways to a file or folder that take no more than its path."""
    ways: Ways = {"by its path": lambda: use(path)}
    for name, pid in _pids(aim).items():
        ways[f"by the root of {name}"] = lambda pid=pid: use(f"/proc/{pid}/root{path}")
    ways["by the root of the thread"] = lambda: use(f"/proc/thread-self/root{path}")
    ways["from the working folder"] = lambda: use(os.path.relpath(path, os.getcwd()))
    ways["from the storage"] = lambda: _from(aim.storage, path, use)
    ways["by a symbolic link"] = lambda: _linked(os.symlink, aim, path, use)
    if not os.path.isdir(path):
        ways["by a hard link"] = lambda: _linked(os.link, aim, path, use)
    return ways


def _from(folder: str, path: str, use: Callable[[str], str | bytes]) -> str | bytes:
    """Go up from a folder whose descriptor is open, and down again."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        up = "/".join([".."] * len(Path(folder).parts))
        return use(f"/proc/self/fd/{fd}/{up}{path}")
    finally:
        os.close(fd)


def _linked(link: Callable[[str, str], None], aim: Aim, path: str, use: Callable[[str], str | bytes]) -> str | bytes:
    name = os.path.join(aim.storage, uuid.uuid4().hex)
    link(path, name)
    try:
        return use(name)
    finally:
        os.unlink(name)


def _opened_to_write(path: str) -> str:
    """Open a file for writing, which is all that has to be shown."""
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    return f"{path} is open for writing"


def _planted_by(aim: Aim) -> Callable[[str], str]:
    """Return what makes a file in a folder, and looks whether it is the folder that others see there."""

    def planted(folder: str) -> str:
        path = os.path.join(folder, f"planted-{uuid.uuid4().hex}")
        with open(path, "x") as file:
            file.write("planted")
        os.unlink(path)
        _check_shared(aim, folder)
        return f"a file can be made in {folder}"

    return planted


def _check_shared(aim: Aim, folder: str) -> None:
    found = os.stat(folder)
    if [found.st_dev, found.st_ino] not in aim.folders:
        raise PermissionError(f"{folder} is a folder of its own in that place")


# -- the network's


@attack
def reads_the_network_file(aim: Aim) -> Ways:
    return _ways_to(aim, aim.network_file)


@attack
def reads_the_env_file(aim: Aim) -> Ways:
    return _ways_to(aim, aim.env_file)


@attack
def reads_the_journal(aim: Aim) -> Ways:
    return _ways_to(aim, aim.journal)


@attack
def writes_the_journal(aim: Aim) -> Ways:
    return _ways_to(aim, aim.journal, _opened_to_write)


@attack
def lists_the_state_folder(aim: Aim) -> Ways:
    def listed(path: str) -> str:
        names = sorted(os.listdir(path))
        if "state.lock" not in names:
            raise FileNotFoundError(f"only {names}")
        return ", ".join(names)

    return _ways_to(aim, aim.state, listed)


@attack
def writes_into_the_state_folder(aim: Aim) -> Ways:
    return _ways_to(aim, aim.state, _planted_by(aim))


@attack
def writes_the_network_file(aim: Aim) -> Ways:
    return _ways_to(aim, aim.network_file, _opened_to_write)


@attack
def replaces_the_network_file(aim: Aim) -> Ways:
    """Put another network file where the next start or SIGHUP reads it."""
    folder = os.path.dirname(aim.network_file)
    return {"a file beside it": lambda: _planted_by(aim)(folder), "by its folder": lambda: _renamed(aim, folder)}


@attack
def moves_the_folder_above_the_networks(aim: Aim) -> Ways:
    """Put another folder where the next start looks for the network's: a folder above it can be renamed."""
    return {"by its name": lambda: _renamed(aim, os.path.dirname(os.path.dirname(aim.network_file)))}


def _renamed(aim: Aim, folder: str) -> str:
    aside = os.path.join(os.path.dirname(folder), f"modvisor-{uuid.uuid4().hex}")
    os.rename(folder, aside)
    os.rename(aside, folder)
    _check_shared(aim, folder)
    return f"{folder} can be renamed, and another folder put in its place"


@attack
def reads_secret_files_that_were_replaced(aim: Aim) -> Ways:
    """Read files that the operator replaced while the mod ran, as an editor does: by renaming a new one over them."""
    return {"the network file": lambda: _read(aim.network_file), "the file of secrets": lambda: _read(aim.env_file)}


@attack
def uncovers_what_mounts_hide(aim: Aim) -> Ways:
    """Take mounts away, or look below them, with the rights of a namespace of one's own."""

    def in_namespaces(way: Way) -> Way:
        def inside() -> str | bytes:
            if os.geteuid() != 0 or not _may_mount():
                calls.become_root_of_a_user_namespace()
            calls.unshare(calls.CLONE_NEWNS)
            return way()

        return apart(inside)

    def unmounted() -> bytes:
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            where = line.split()[4].encode().decode("unicode_escape")
            if aim.journal.startswith(f"{where.rstrip('/')}/") and where != "/":
                with suppress(OSError):
                    calls.unmount(where)
        return _secret(aim.journal)

    def cloned() -> bytes:
        tree = calls.syscall("open_tree", -100, ctypes.c_char_p(os.path.dirname(aim.state).encode()), 1)
        return _secret(f"/proc/self/fd/{tree}/{os.path.basename(aim.state)}/network.db")

    def bound() -> bytes:
        where = os.path.join(aim.storage, "bound")
        os.makedirs(where, exist_ok=True)
        calls.mount(os.path.dirname(aim.state), where, "none", calls.MS_BIND)
        return _secret(os.path.join(where, os.path.basename(aim.state), "network.db"))

    def whole() -> bytes:
        tree = calls.syscall("open_tree", -100, ctypes.c_char_p(b"/"), 1)
        return _secret(f"/proc/self/fd/{tree}{aim.journal}")

    if not aim.is_hidden:
        return {"nothing hides it": lambda: _secret(aim.journal)}
    return {
        "by taking mounts away": in_namespaces(unmounted),
        "by a copy of the folder above": in_namespaces(cloned),
        "by binding the folder above": in_namespaces(bound),
        "by a copy of the root": in_namespaces(whole),
    }


def _may_mount() -> bool:
    return bool(int(re.findall(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())[0], 16) & 1 << 21)


def _secret(path: str) -> bytes:
    return _read(path)


@attack
def enters_the_namespaces_of_others(aim: Aim) -> Ways:
    def entered(pid: int, kind: str) -> Way:
        def enter() -> str | bytes:
            with open(f"/proc/{pid}/ns/{kind}") as namespace:  # refused, mostly, and then no child is needed
                return apart(lambda: in_there(namespace.fileno()))()

        return enter

    def in_there(namespace: int) -> str:
        calls.checked(calls.libc.setns(namespace, 0))
        return "in the namespaces of another"

    kinds = ("mnt", "user", "pid", "net", "ipc")
    return {f"{kind} of {name}": entered(pid, kind) for name, pid in _pids(aim).items() for kind in kinds}


@attack
def opens_files_by_handle(aim: Aim) -> Ways:
    """Open a file by its number in the file system, past all folders."""

    def opened() -> bytes:
        kind, data = aim.journal_handle
        handle = ctypes.create_string_buffer(8 + len(data))
        ctypes.c_uint.from_buffer(handle).value = len(data)
        ctypes.c_int.from_buffer(handle, 4).value = kind
        handle[8 : 8 + len(data)] = bytes(data)
        at = os.open(aim.storage, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with open(calls.syscall("open_by_handle_at", at, handle, os.O_RDONLY), "rb") as file:
                return file.read(_SIZE)
        finally:
            os.close(at)

    return {"the journal": opened}


# -- the other mod's


@attack
def reads_a_siblings_storage(aim: Aim) -> Ways:
    return _ways_to(aim, os.path.join(aim.sibling_storage, "secret"))


@attack
def writes_a_siblings_storage(aim: Aim) -> Ways:
    return _ways_to(aim, aim.sibling_storage, _planted_by(aim))


@attack
def reads_a_siblings_log(aim: Aim) -> Ways:
    return _ways_to(aim, aim.sibling_log)


@attack
def changes_what_a_sibling_is_restarted_from(aim: Aim) -> Ways:
    """Change the snapshot of a mod's sources, or the marks that say which events killed it."""
    kept = (aim.snapshots, aim.marks)
    return {f"{name} in {path}": way for path in kept for name, way in _ways_to(aim, path, _planted_by(aim)).items()}


@attack
def changes_the_code_of_a_sibling(aim: Aim) -> Ways:
    """Change what another mod imports at its next load."""
    return _ways_to(aim, aim.sibling_code, _planted_by(aim))


@attack
def changes_the_code_of_the_network(aim: Aim) -> Ways:
    """Change what the supervisor imports at its next start."""
    return {
        "of modvisor": lambda: _planted_by(aim)(aim.house),
        "of a library": lambda: _planted_by(aim)(aim.site_packages),
    }


# -- the user's and the system's


@attack
def reads_the_users_files(aim: Aim) -> Ways:
    return _ways_to(aim, aim.private_file)


@attack
def writes_the_users_files(aim: Aim) -> Ways:
    return _ways_to(aim, os.path.dirname(aim.private_file), _planted_by(aim))


@attack
def reads_the_systems_files(aim: Aim) -> Ways:
    return {"the list of users": lambda: _read("/etc/passwd")}


@attack
def writes_into_the_common_temporary_folder(aim: Aim) -> Ways:
    def written() -> str:
        path = f"/tmp/modvisor-planted-{aim.number}-{uuid.uuid4().hex}"
        with open(path, "w") as file:
            file.write("planted")
        return path  # whether others see it, the test looks

    return {"a file": written}


@attack
def makes_a_setuid_file(aim: Aim) -> Ways:
    """Make a program that gives the mod's rights to every user of the host."""

    def made(change: Callable[[str, int], object]) -> Way:
        def make() -> str:
            path = os.path.join(aim.storage, uuid.uuid4().hex)
            with open(path, "w") as file:
                file.write("#!/bin/sh\n")
            try:
                change(path, 0o6755)
                mode = os.stat(path).st_mode
                if not mode & stat.S_ISUID:
                    raise PermissionError(f"the mode is {mode:o}")
                return f"the mode is {mode:o}"
            finally:
                os.unlink(path)

        return make

    def opened(path: str, mode: int) -> None:
        os.unlink(path)
        os.umask(0)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    def changed_open(path: str, mode: int) -> None:
        with open(path) as file:
            os.fchmod(file.fileno(), mode)

    def raw(path: str, mode: int) -> None:
        calls.syscall("fchmodat2", -100, ctypes.c_char_p(path.encode()), mode, 0)

    return {
        "by chmod": made(os.chmod),
        "by fchmod": made(changed_open),
        "by fchmodat2": made(raw),
        "by open": apart(made(opened)),
    }


@attack
def makes_a_device_node(aim: Aim) -> Ways:
    def made() -> str:
        path = os.path.join(aim.storage, "node")
        os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(7, 0))
        os.unlink(path)
        return "a block device"

    return {"mknod": made}


@attack
def reads_a_raw_disk(aim: Aim) -> Ways:
    """Read a file system past all its rights, or the machine's memory."""
    nodes = [entry for entry in os.scandir("/dev") if not entry.is_symlink() and stat.S_ISBLK(entry.stat().st_mode)]
    paths = [*(entry.path for entry in nodes[:4]), "/dev/mem", "/dev/port", "/proc/kcore"]

    def opened(path: str) -> str:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        return f"{path} is open"

    return {path: lambda path=path: opened(path) for path in paths}


@attack
def changes_kernel_settings(aim: Aim) -> Ways:
    """Open what makes the kernel run a program as root, or act on the whole machine."""
    paths = (
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger", "/proc/sys/vm/overcommit_memory",
        "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/uevent_helper", "/proc/irq/default_smp_affinity",
    )  # fmt: skip
    return {path: lambda path=path: _opened_to_write(path) for path in paths}


@attack
def changes_control_groups(aim: Aim) -> Ways:
    """Leave the own control group, or end the group of others."""
    ways: Ways = {}
    for who, folder in {
        "the network": aim.cgroup,
        "a sibling": aim.sibling_cgroup,
        "the root": aim.cgroup_root,
    }.items():
        for name in ("cgroup.procs", "cgroup.kill", "cgroup.freeze"):
            if folder and os.path.basename(folder):
                path = os.path.join(folder, name)
                ways[f"{name} of {who}"] = lambda path=path: _opened_to_write(path)
    return ways


@attack
def finds_open_files(aim: Aim) -> Ways:
    """Use descriptors that were left open."""

    def found() -> str:
        allowed = ("/dev/null", "/null", "/memfd:", aim.marks, aim.storage, "/dev/shm/")
        left = []
        for name in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):
                path = os.readlink(f"/proc/self/fd/{name}")
                if path.startswith("/") and not path.startswith(allowed) and not path.startswith("/proc/"):
                    left.append(f"{name} {path}")
        if not left:
            raise FileNotFoundError("none is open")
        return ", ".join(left)

    return {"its own": found}
