"""The state directory: it has one owner at a time, and this file says where things are in it."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress
from pathlib import Path

from ...ipc.errors import Code, ModvisorError


class StateDirBusy(ModvisorError):
    """Another network owns the state directory."""

    code = Code.CONFLICT


class StateDir:
    """The ``storage`` of a network, locked for this process from `acquire` to `release`.

        state.lock          locked (flock) by the owner; contains its pid
        network.db          the journal
        mods/ID/            a mod's own files (context.storage_path)
        logs/ID.log         a mod's output
        snapshots/          the sources of the last good version of each mod
        run/admin.sock      the admin API

    Attributes:
        python_path: where this process finds modules, for the workers to find them too.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: int | None = None
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

    def log_file(self, mod_id: str) -> Path:
        return self.root / "logs" / f"{mod_id}.log"

    def storage_of(self, mod_id: str) -> Path:
        """Return the mod's own folder, and make it if it is missing.

        The folder of one of several workers (``wiki#1``) lies in the folder of its mod.
        """
        name, _, index = mod_id.partition("#")
        folder = self.root / "mods" / name / index
        folder.mkdir(parents=True, exist_ok=True)
        return folder

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
            OSError: the directory cannot be made or locked.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.root / "state.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise StateDirBusy(
                f"the state directory {self.root} belongs to a running network (pid {owner}); "
                "stop that network, or give this one another 'storage'"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock
        # Workers look here after the network's own folders.
        self.python_path = [os.path.abspath(entry) for entry in sys.path if entry and os.path.isdir(entry)]
        for folder in (self.run, self.root / "logs", self.snapshots):
            folder.mkdir(exist_ok=True, mode=0o700)

    def release(self) -> None:
        """Give the directory up. May be called again."""
        if self._lock is not None:
            with suppress(OSError):  # the disk has turned read-only; whoever starts next writes its own pid
                os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None
