"""`WikiMod`: the events of the wiki. ../README.md describes them."""

from __future__ import annotations

from typing import Any

from ... import BaseMod, Code, Event, EventResponse, Refused, mod_event_handler
from ..fields import Given, actor
from ..paging import MAX_ID, cut, list_answer, read_cursor, read_limit
from ..store_mod import StoreMod
from .paths import MAX_PATH, read_optional_path, read_path
from .proposals import STATUSES, ProposalStore
from .search import Search
from .store import Change, PageStore

MAX_TITLE = 200
MAX_SUMMARY = 500
MAX_RATIONALE = 5_000
MAX_TAGS, MAX_TAG = 20, 50
MAX_QUERY = 200


class WikiMod(StoreMod, BaseMod):
    """Pages, revisions, search and proposals."""

    version = "1.0.0"
    description = "A wiki: pages with every revision kept, full-text search, and proposals."

    def initialize(self) -> None:
        config = Given(self.config)
        self._public = config.flag("public", default=True)
        self._editors = frozenset(config.agents("editors", default=[]))
        self._max_content = config.integer("max_content", least=1, most=16_000_000, default=1_000_000)
        self._destination = config.destination("announce")
        config.done()

    def activate(self) -> None:
        self._pages = self.open("wiki.db", PageStore, self._destination)
        self._proposals = ProposalStore(self._pages)
        self._search = Search(self._pages.connection)

    # -- pages

    @mod_event_handler("wiki.page.create")
    async def create_page(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        path = read_path(given)
        content = given.text("content", least=0, most=self._max_content)
        title = given.line("title", most=MAX_TITLE, default=path.rpartition("/")[2])
        tags = _tags(given) or []
        change = self._change(given, event)
        given.done()
        self._check_editor(event)
        page = self._pages.create(path, title, content, tags, change)
        await self._tell("created", page, change)
        return EventResponse(True, f"Page {page['path']} was created.", _head(page))

    @mod_event_handler("wiki.page.get")
    async def get_page(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        path = read_path(given)
        number = given.integer("revision", least=1, most=MAX_ID, default=None)
        given.done()
        page = self._pages.current(path) if number is None else self._pages.revision(path, number)
        return EventResponse(True, f"Page {page['path']}, revision {page['revision']}.", page)

    @mod_event_handler("wiki.page.edit")
    async def edit_page(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        path = read_path(given)
        content = given.text("content", least=0, most=self._max_content, default=None)
        title = given.line("title", most=MAX_TITLE, default=None)
        tags = _tags(given)
        base = given.integer("base_revision", least=1, most=MAX_ID, default=None)
        change = self._change(given, event)
        given.done()
        if content is None and title is None and tags is None:
            raise Refused("content: missing; expected at least one of content, title, tags", field="content")
        self._check_editor(event)
        page, changed = self._pages.edit(path, title, content, tags, base, change)
        if not changed:
            return EventResponse(True, f"Page {page['path']} already says that.", {**_head(page), "changed": False})
        await self._tell("edited", page, change)
        message = f"Page {page['path']} is now at revision {page['revision']}."
        return EventResponse(True, message, {**_head(page), "changed": True})

    @mod_event_handler("wiki.page.revert")
    async def revert_page(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        path = read_path(given)
        number = given.integer("revision", least=1, most=MAX_ID)
        change = self._change(given, event, f"reverted to revision {number}")
        given.done()
        self._check_editor(event)
        page = self._pages.revert(path, number, change)
        await self._tell("reverted", page, change)
        message = f"Page {page['path']} was reverted to revision {number}; the new revision is {page['revision']}."
        return EventResponse(True, message, _head(page))

    @mod_event_handler("wiki.page.delete")
    async def delete_page(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        path = read_path(given)
        base = given.integer("base_revision", least=1, most=MAX_ID, default=None)
        change = self._change(given, event)
        given.done()
        self._check_editor(event)
        page = self._pages.delete(path, base, change)
        await self._tell("deleted", page, change)
        message = f"Page {page['path']} was deleted; wiki.page.revert restores any revision of it."
        return EventResponse(True, message, {"path": page["path"], "revision": page["revision"]})

    @mod_event_handler("wiki.page.history")
    async def page_history(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        path = read_path(given)
        limit, before = read_limit(given), read_cursor(given)
        given.done()
        rows = self._pages.history(path, before, limit + 1)
        return list_answer("revisions", rows, limit, "revision", f"revisions of {path}")

    @mod_event_handler("wiki.page.list")
    async def list_pages(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        prefix = given.text("prefix", least=0, most=MAX_PATH, default="")
        tag = given.line("tag", most=MAX_TAG, default=None)
        deleted = given.flag("deleted", default=False)
        limit, after = read_limit(given), given.text("cursor", least=0, most=2 * MAX_PATH, default="")
        given.done()
        rows = self._pages.list(prefix, tag, deleted, after, limit + 1)
        return list_answer("pages", rows, limit, "path")

    @mod_event_handler("wiki.page.search")
    async def search_pages(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        query = given.line("query", most=MAX_QUERY)
        limit, offset = read_limit(given), read_cursor(given)
        given.done()
        rows = self._search.find(query, limit + 1, offset)
        if rows is None:
            raise Refused(f"query: expected at least one word, got {query!r}", field="query")
        pages, more = cut(rows, limit, lambda _: offset + limit)
        return EventResponse(True, f"{len(pages)} pages with {query!r}.", {"pages": pages, **more})

    # -- proposals

    @mod_event_handler("wiki.proposal.create")
    async def create_proposal(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        path = read_path(given)
        content = given.text("content", least=0, most=self._max_content)
        rationale = given.text("rationale", most=MAX_RATIONALE)
        title = given.line("title", most=MAX_TITLE, default=None)
        tags = _tags(given)
        given.done()
        change = Change(actor(event), self.clock())
        proposal = self._proposals.create(path, title, content, tags, rationale, change)
        await self.announce.send("wiki.change.proposed", proposal)
        return EventResponse(True, f"Proposal {proposal['proposal_id']} for {path} waits for an editor.", proposal)

    @mod_event_handler("wiki.proposal.list")
    async def list_proposals(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        status = given.choice("status", STATUSES, default=None)
        path = read_optional_path(given)
        limit, before = read_limit(given), read_cursor(given)
        given.done()
        rows = self._proposals.list(status, path, before, limit + 1)
        return list_answer("proposals", rows, limit, "proposal_id")

    @mod_event_handler("wiki.proposal.get")
    async def get_proposal(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        proposal_id = given.integer("proposal_id", least=1, most=MAX_ID)
        given.done()
        proposal = self._proposals.get(proposal_id)
        return EventResponse(True, f"Proposal {proposal_id} for {proposal['path']}: {proposal['status']}.", proposal)

    @mod_event_handler("wiki.proposal.accept")
    async def accept_proposal(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        proposal_id = given.integer("proposal_id", least=1, most=MAX_ID)
        force = given.flag("force", default=False)
        change = self._change(given, event)
        given.done()
        self._check_editor(event)
        proposal, page = self._proposals.accept(proposal_id, force, change)
        await self.announce.send("wiki.change.accepted", proposal)
        message = f"Proposal {proposal_id} is now revision {page['revision']} of {page['path']}."
        return EventResponse(True, message, {"proposal": proposal, "page": _head(page)})

    @mod_event_handler("wiki.proposal.reject")
    async def reject_proposal(self, event: Event) -> EventResponse:
        given = Given(event.payload)
        proposal_id = given.integer("proposal_id", least=1, most=MAX_ID)
        reason = given.text("reason", most=MAX_RATIONALE, default=None)
        given.done()
        if self._proposals.get(proposal_id)["author"] != actor(event):  # authors may withdraw their own proposals
            self._check_editor(event)
        proposal = self._proposals.reject(proposal_id, reason, Change(actor(event), self.clock()))
        await self.announce.send("wiki.change.rejected", proposal)
        return EventResponse(True, f"Proposal {proposal_id} for {proposal['path']} was rejected.", proposal)

    # -- inside

    def _check_editor(self, event: Event) -> None:
        if not self._public and actor(event) not in self._editors:
            raise Refused(
                f"{actor(event)} is not an editor of this wiki; propose the change with wiki.proposal.create",
                code=Code.FORBIDDEN,
            )

    def _change(self, given: Given, event: Event, summary: str = "") -> Change:
        return Change(actor(event), self.clock(), given.line("summary", most=MAX_SUMMARY, default=summary))

    async def _tell(self, what: str, page: dict[str, Any], change: Change) -> None:
        told = {name: page[name] for name in ("path", "title", "revision")}
        told |= {"author": change.author, "at": change.at, "summary": change.summary}
        await self.announce.send(f"wiki.change.{what}", told)


def _tags(given: Given) -> list[str] | None:
    return given.texts("tags", items=MAX_TAGS, most=MAX_TAG, default=None)


def _head(page: dict[str, Any]) -> dict[str, Any]:
    """Return a page without its content, which the sender knows or did not ask for."""
    return {name: value for name, value in page.items() if name != "content"}
