"""The state directory: it has one owner at a time, and this file says where things are in it."""

from __future__ import annotations

import fcntl
import grp
import logging
import os
import pwd
import shlex
import stat
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from ...ipc.errors import Code, ModvisorError

logger = logging.getLogger("modvisor.network")


class StateDirBusy(ModvisorError):
    """Another network owns the state directory."""

    code = Code.CONFLICT


class UnsafeStateDir(ModvisorError):
    """Others can change what is in the state directory."""

    code = Code.START_FAILED


class StateDir:
    """The ``storage`` of a network, locked for this process from `acquire` to `release`.

        state.lock          locked (flock) by the owner; contains its pid
        network.db          the journal
        mods/ID/            a mod's own files (context.storage_path)
        logs/ID.log         a mod's output
        snapshots/          the sources of the last good version of each mod
        uids.json           the user ids of mods that have one of their own
        run/admin.sock      the admin API
        run/marks/          which events each worker has in hand

    Attributes:
        python_path: where this process finds modules, for the workers to find them too.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: int | None = None
        self._folder: int | None = None
        self.python_path: list[str] = []

    @property
    def database(self) -> Path:
        return self.root / "network.db"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def admin_socket(self) -> Path:
        return self.run / "admin.sock"

    @property
    def marks(self) -> Path:
        return self.run / "marks"

    def log_file(self, mod_id: str) -> Path:
        return self.root / "logs" / f"{mod_id}.log"

    def storage_of(self, mod_id: str) -> Path:
        """Return the mod's own folder, and make it if it is missing.

        The folder of one of several workers (``wiki#1``) lies in the folder of its mod.
        """
        name, _, index = mod_id.partition("#")
        folder = self.root / "mods" / name
        storage = folder / index if index else folder
        try:
            make_private(folder.parent)
        except FileNotFoundError:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            make_private(folder.parent)
        for each in dict.fromkeys((folder, storage)):
            make_private(each)
        return storage

    @property
    def is_taken(self) -> bool:
        """Whether a running network owns the directory."""
        try:
            lock = os.open(self.root / "state.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    def acquire(self) -> None:
        """Become the owner.

        Raises:
            StateDirBusy: another network owns the directory; the message names its pid.
            UnsafeStateDir: others can change what is in it.
            OSError: the directory cannot be made or locked.
        """
        if not self.root.exists():
            self.root.mkdir(parents=True, mode=0o700)
            self.root.chmod(0o700)  # the umask may have taken our own rights
        check_rights(self.root)
        with ExitStack() as failed:
            # The folder is locked, too: whoever deletes the file does not let a second network in.
            folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            failed.callback(os.close, folder)
            lock = os.open(self.root / "state.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            failed.callback(os.close, lock)
            if not (_locked(lock) and _locked(folder)):
                owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
                raise StateDirBusy(
                    f"the state directory {self.root} belongs to a running network (pid {owner}); "
                    "stop that network, or give this one another 'storage'"
                )
            os.fchmod(lock, 0o600)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            for each in (self.run, self.root / "logs", self.snapshots):
                make_private(each)
            failed.pop_all()
        self._lock, self._folder = lock, folder
        # Workers look here after the network's own folders.
        self.python_path = [os.path.abspath(entry) for entry in sys.path if entry and os.path.isdir(entry)]

    def release(self) -> None:
        """Give the directory up. May be called again."""
        if self._lock is not None and self._folder is not None:
            with suppress(OSError):  # the disk has turned read-only; whoever starts next writes its own pid
                os.ftruncate(self._lock, 0)
            os.close(self._lock)
            os.close(self._folder)
            self._lock = self._folder = None


def _locked(descriptor: int) -> bool:
    """Lock a file or folder. Return False if another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return True  # some network file systems lock no folders; the file must do
        raise
    return True


def make_private(folder: Path) -> None:
    """Make a folder that nobody else can look into, whatever the umask; tighten one that exists."""
    try:
        os.mkdir(folder, 0o700)
        mode = os.stat(folder).st_mode
    except FileExistsError:
        mode = os.stat(folder).st_mode
        if not stat.S_ISDIR(mode):
            raise
    if stat.S_IMODE(mode) & 0o777 != 0o700:
        with suppress(PermissionError):  # it belongs to another user; the folder above it keeps others out
            folder.chmod(0o700)


def check_rights(root: Path) -> None:
    """Warn if others can read the state directory.

    Raises:
        UnsafeStateDir: others can write to it. They could replace the journal, and the sources that
            mods are restarted from.
    """
    status = root.stat()
    mode, user = stat.S_IMODE(status.st_mode), os.geteuid()
    if user and status.st_uid not in (user, 0):
        raise UnsafeStateDir(
            f"the state directory {root} belongs to another user ({status.st_uid}), who could change what is in it; "
            f"run the network as that user, or give it another 'storage'"
        )
    if mode & stat.S_IWOTH:
        raise UnsafeStateDir(
            f"every user can write to the state directory {root} (mode {mode:04o}), and so replace what mods run; "
            f"correct it with: chmod go-rwx {shlex.quote(str(root))}"
        )
    shared = stat.S_IRWXO | (0 if _is_private(status.st_gid) else stat.S_IRWXG)
    if mode & shared:
        can = "write to" if mode & shared & stat.S_IWGRP else "look into"
        logger.warning("others can %s the state directory %s (mode %04o), which holds events and hashes of secrets; "
                       "correct it with: chmod go-rwx %s", can, root, mode, shlex.quote(str(root)))  # fmt: skip


def _is_private(group: int) -> bool:
    """Return whether a group is the user's own, as many systems give each user one."""
    try:
        name, members = grp.getgrgid(group).gr_name, grp.getgrgid(group).gr_mem
        own = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return name == own and not set(members) - {own}
