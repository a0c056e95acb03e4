"""`Refusal`, the failure of every request about agents and channels."""

from __future__ import annotations

from ....ipc.errors import Code, ModvisorError


class Refusal(ModvisorError):
    """A refused request about agents or channels."""

    code = Code.BAD_INPUT
