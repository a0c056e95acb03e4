"""The operator's routes of dead letters: list them page by page, show, replay, remove."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ....ipc.address import check_mod_id, is_mod_path, mod_id_of
from ....ipc.errors import Code
from ...events import DeadLetters
from ..content.as_json import BadBody
from ..routes.answers import Answer, failure, render_response, response_body
from ..routes.params import check_known
from .payloads import LETTERS as LETTERS_READ
from .payloads import Readers, may_read, without_payload
from .spec import ALL, BEFORE, LETTERS, OF_MOD, OLDER_THAN, PAGE_SIZE, REMOVE_LETTERS

if TYPE_CHECKING:
    from ...operations import Operations


class LetterRoutes:
    """The routes `/dead-letters`. A letter outlives its mod: only a replay needs a loaded mod."""

    def __init__(self, network: Operations, readers: Readers) -> None:
        self._network = network
        self._readers = readers

    @property
    def _letters(self) -> DeadLetters:
        return self._network.dead_letters

    async def list(self, request: Request) -> Response:
        check_known(request, *LETTERS.query)
        limit, before = PAGE_SIZE.of(request), BEFORE.of(request)
        mod_id = await self._mod_id(request)
        found = await self._letters.list(mod_id, limit=limit + 1, before=before)
        page = found[:limit]
        return Answer({"dead_letters": page, "next": page[-1]["letter_id"] if len(found) > limit else None})

    async def show(self, request: Request) -> Response:
        """Return one letter, with what its event carries only for whoever may read that."""
        letter = await self._letters.show(letter_id := _letter_id(request))
        if self._readers.reads(request, LETTERS_READ, str(letter_id)):
            return Answer(letter)
        return Answer({**letter, "event": without_payload(letter["event"], None), "payloads": False})

    async def replay(self, request: Request) -> Response:
        letter_id = _letter_id(request)
        response = await self._letters.replay(letter_id)
        outcome = "ok" if response.success else str(response.error)
        self._network.audit_note("letter.replay", on=str(letter_id), outcome=outcome)
        named = {"letter_id": letter_id, "event_name": response.event_name}
        body = response_body(response)
        if response.success and not may_read(request):  # the mod's answer is as secret as the event
            named |= {"message": "", "data": None, "payloads": False}
        return Answer(render_response({**body, **named}))

    async def remove(self, request: Request) -> Response:
        letter_id = _letter_id(request)
        purge = partial(self._letters.purge, letter_id=letter_id)
        if not await self._network.audited("letter.remove", on=str(letter_id), do=purge):
            return failure(Code.NOT_FOUND, f"there is no dead letter {letter_id}")
        return _removed(1)

    async def remove_some(self, request: Request) -> Response:
        check_known(request, *REMOVE_LETTERS.query)
        mod_id = await self._mod_id(request)
        older_than, every = OLDER_THAN.of(request), ALL.of(request)
        if every and (mod_id is not None or older_than is not None):
            raise BadBody("all: means every dead letter; leave out either 'all', or both 'mod' and 'older_than'")
        if not every and mod_id is None and older_than is None:
            raise BadBody("say which dead letters to remove: mod=MOD, older_than=SECONDS (or both), or all=1")
        purge = partial(self._letters.purge, mod_id=mod_id, older_than=older_than)
        detail = {"mod": mod_id, "older_than": older_than}
        return _removed(await self._network.audited("letter.remove", do=purge, detail=detail))

    async def _mod_id(self, request: Request) -> str | None:
        """Return the id of the mod that the query names by id or path. It need not be loaded.

        Raises:
            InvalidId: the query names neither.
        """
        mod = OF_MOD.of(request)
        if mod is None:
            return None
        for mod_id, loaded in self._network.get_loaded_mods().items():
            if mod in (mod_id, loaded["mod_path"]):
                return mod_id
        # 'wiki.v2' may be an id or a path. It is an id if it has letters.
        if is_mod_path(mod) and not await self._letters.list(mod, limit=1):
            return mod_id_of(mod)
        return check_mod_id(mod)


def _letter_id(request: Request) -> int:
    text = request.path_params["letter"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadBody(f"dead letter {text[:40]!r}: expected its number, such as 7")
    return int(text)


def _removed(count: int) -> Answer:
    message = "1 dead letter removed" if count == 1 else f"{count} dead letters removed"
    return Answer({"success": True, "message": message, "data": {"removed": count}})
