"""Answers the requests of workers about their mod's files (`context.files`)."""

from __future__ import annotations

from typing import Any

from ...ipc.errors import InvalidEvent, shown
from ...ipc.file_name import checked_file_name
from ..journal import FileStore
from ..lifecycle import Incarnation, Keeper


class FileRequests:
    """Keeps the files of mods, each below the mod's id: a worker cannot name another mod's."""

    def __init__(self, files: FileStore) -> None:
        self._files = files

    async def answer(self, _keeper: Keeper, incarnation: Incarnation, params: Any) -> Any:
        mod_id, params = incarnation.config.mod_id, params or {}
        do = params.get("do")
        if do == "list":
            return await self._files.list(mod_id)
        name = checked_file_name(params.get("name"))
        match do:
            case "put" if type(data := params.get("data")) is bytes:
                return await self._files.put(mod_id, name, data)
            case "get":
                return await self._files.get(mod_id, name)
            case "drop":
                return await self._files.drop(mod_id, name)
        raise InvalidEvent(f"files: expected do: put (with data: bytes), get, list or drop, got {shown(do)}")
