"""A worker in another language: the program that a mod's ``command`` names."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ...ipc.errors import Code, ModvisorError


class BadCommand(ModvisorError):
    """A program that cannot be started."""

    code = Code.BAD_COMMAND


@dataclass(frozen=True, slots=True)
class Program:
    """A program that speaks the protocol of workers, with its arguments."""

    words: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """The command of a worker, without the numbers of its descriptors."""
        return list(self.words)

    def check(self) -> None:
        """Raise `BadCommand` unless the program is an executable file."""
        program = self.words[0]
        if not os.access(program, os.X_OK) or not os.path.isfile(program):
            what = "is not an executable file" if os.path.exists(program) else "does not exist"
            raise BadCommand(f"the program {program} {what}; put it there, or correct 'command'")
