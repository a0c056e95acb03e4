"""Commands about dead letters: see them, give their events to their mods again, remove them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ....ipc.errors import ModvisorError
from ..client.connect import connect
from ..options.arguments import age, letter_ids
from ..options.complete import dead_letters, letters_or_mods, mods_with_letters
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, complain, printable, show

if TYPE_CHECKING:
    from ..client.client import Client

PAGE = 500  # letters per request: ten thousand are listed in little memory and time


def ls(
    settings: Settings,
    mod: Annotated[
        str | None,
        typer.Argument(
            metavar="[MOD]", help="Only dead letters of this mod, loaded or not.", autocompletion=mods_with_letters
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="Show at most N.")] = 50,
    before: Annotated[
        int | None, typer.Option("--before", metavar="ID", min=1, help="Only letters with a smaller number.")
    ] = None,
) -> None:
    """List dead letters, the newest first."""
    from ..at_rest import left as at_rest

    output, client, some = Output(as_json=settings.json), connect(settings), limit + 1
    try:
        found = list(islice(heads(client, mod, before=before, page=min(some, PAGE)), some))
    except CliError as error:
        found = at_rest.left(
            client, output, error, lambda journal: at_rest.letter_heads(journal, mod, limit=some, before=before)
        )
    page = found[:limit]
    answer = {"dead_letters": page, "next": page[-1]["letter_id"] if len(found) > limit else None}
    output.document(answer, lambda: _show_heads(page, mod))
    if answer["next"] is not None:
        output.note(f"there are older ones: modvisor dlq ls{f' {mod}' if mod else ''} --before {answer['next']}")
    elif mod is not None and not page and before is None:
        _tell_if_unknown(client, output, mod)


def _tell_if_unknown(client: Client, output: Output, mod: str) -> None:
    """Say that no mod has this id: a letter outlives its mod, so that is no mistake, but may be a typing error."""
    from ....ipc.address import is_mod_path, mod_id_of
    from ...nearest import did_you_mean
    from ..client.meant import mod_ids

    with suppress(CliError, ModvisorError):  # no network runs, or this token may not see the mods
        known, mod_id = mod_ids(client), mod_id_of(mod) if is_mod_path(mod) else mod
        if mod_id not in known:
            output.note(f"no mod {mod_id!r} is loaded{did_you_mean(mod_id, known)}")


def _show_heads(heads: list[dict[str, Any]], mod: str | None) -> None:
    from ..render.letters import heads_table

    if heads:
        show(heads_table(heads))
    else:
        print(printable(f"no dead letters{f' of mod {mod}' if mod else ''}"))


def show_letter(
    settings: Settings,
    letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="The number that 'dlq ls' shows.", autocompletion=dead_letters)
    ],
) -> None:
    """Show all of a dead letter: its event with the payload, and the crash report."""
    [number] = letter_ids([letter_id])
    from ..at_rest import left as at_rest

    output, client = Output(as_json=settings.json), connect(settings)
    try:
        letter = client.get(f"/dead-letters/{number}")
    except CliError as error:
        letter = at_rest.left(
            client, output, error, lambda journal: at_rest.letter(journal, number, settings.network_file)
        )
    output.document(letter, lambda: _show_letter(letter))


def _show_letter(letter: dict[str, Any]) -> None:
    from ..render.letters import letter_parts

    show(*letter_parts(letter))


def replay(
    settings: Settings,
    which: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID",
            help="Numbers of dead letters. With --all: a mod, by id or path.",
            autocompletion=letters_or_mods,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All letters that exist now, or all of MOD.")] = False,
) -> None:
    """Give the events of dead letters to their mods again, the oldest first, one after the other.

    What is answered is a dead letter no more; what kills its mod again becomes a new one.
    """
    numbers, mod = _to_replay(which or [], every)
    output = Output(as_json=settings.json)
    run = LetterReplay(connect(settings), keep=settings.json)
    try:
        for outcome in run.all(mod) if numbers is None else run.these(numbers):
            if not settings.json:
                print(printable(_replayed(outcome)), flush=True)
    except CliError as error:  # report what was replayed before the error, and the error, in one document
        raise CliError(error.code, str(error), {**run.summary(), **error.document()}) from None
    except KeyboardInterrupt:
        document = {**run.summary(), "success": False, "data": {"error": "interrupted"}}
        raise CliError(ExitCode.INTERRUPTED, f"interrupted: {run.sentence()}", document) from None
    output.document(run.summary(), lambda: print(printable(run.sentence())))
    if run.failed:
        raise typer.Exit(ExitCode.FAILED)


def _replayed(outcome: dict[str, Any]) -> str:
    message = str(outcome["message"]).replace("\n", " ")
    what = f"ok: {message}" if outcome["success"] else f"{outcome['error'] or 'failed'}: {message}"
    return f"{outcome['letter_id']}  {outcome['event_name'] or '-'}  {what.removesuffix(': ')}"


def _to_replay(which: list[str], every: bool) -> tuple[list[int] | None, str | None]:
    """Return the numbers to replay and the mod; no numbers (None) means all letters, of that mod if one is given."""
    if every and len(which) > 1:
        raise CliError(ExitCode.USAGE, f"--all takes one MOD, got {', '.join(which)}")
    if every:
        return None, which[0] if which else None
    if not which:
        raise CliError(
            ExitCode.USAGE, "say which: the IDs that 'modvisor dlq ls' shows, or --all, or --all MOD for those of a mod"
        )
    return letter_ids(which), None


def purge(
    settings: Settings,
    which: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Numbers of dead letters.", autocompletion=dead_letters),
    ] = None,
    mod: Annotated[
        str | None,
        typer.Option(
            "--mod", metavar="MOD", help="Remove letters of this mod, loaded or not.", autocompletion=mods_with_letters
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="TIME", help="Remove letters older than 90s, 30m, 12h, 30d …"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Remove all letters.")] = False,
) -> None:
    """Remove dead letters. Their events are lost then."""
    numbers, query = _to_remove(which or [], mod, older_than, every)
    client = connect(settings)
    if query:
        response = client.request("DELETE", "/dead-letters", query=query)
        Output(as_json=settings.json).document(response, lambda: print(response["message"]))
        return
    missing = [number for number in numbers if not _removed(client, number)]
    removed = len(numbers) - len(missing)
    message = "1 dead letter removed" if removed == 1 else f"{removed} dead letters removed"
    data = {"removed": removed, "missing": missing, **({"error": "not_found"} if missing else {})}
    document = {"success": not missing, "message": message, "data": data}
    Output(as_json=settings.json).document(document, lambda: print(message))
    if missing:
        complain(f"there is no dead letter {', '.join(map(str, missing))}; 'modvisor dlq ls' shows those there are")
        raise typer.Exit(ExitCode.FAILED)


def _to_remove(
    which: list[str], mod: str | None, older_than: str | None, every: bool
) -> tuple[list[int], dict[str, Any]]:
    """Return the numbers to remove, or the query that finds them. Without any option nothing is removed."""
    chosen = mod is not None or older_than is not None
    if bool(which) + chosen + every != 1:
        got = "nothing" if not (which or chosen or every) else "more than one of them"
        raise CliError(
            ExitCode.USAGE,
            f"say which, in one way: IDs; --mod MOD, --older-than DURATION or both; --all for every one (got {got})",
        )
    seconds = None if older_than is None else age(older_than, "--older-than")
    return letter_ids(which), {"all": 1} if every else {"mod": mod, "older_than": seconds} if chosen else {}


def _removed(client: Client, number: int) -> bool:
    try:
        client.request("DELETE", f"/dead-letters/{number}")
    except CliError as error:
        if error.error != "not_found":
            raise
        return False
    return True


def heads(
    client: Client, mod: str | None = None, *, before: int | None = None, page: int = PAGE
) -> Iterator[dict[str, Any]]:
    """Yield every letter (of a mod) without payload and report, the newest first."""
    while True:
        answer = client.get("/dead-letters", mod=mod, before=before, limit=page)
        yield from answer["dead_letters"]
        before = answer["next"]
        if before is None:
            return


class LetterReplay:
    """Gives events to their mods again, one after the other, so that an event that kills takes no other with it.

    Args:
        keep: whether `summary` is to tell what became of each letter.

    Attributes:
        done: how many were answered, or passed on and delivered; ``failed``: how many were not, by error code.
    """

    def __init__(self, client: Client, *, keep: bool) -> None:
        self._client = client
        self._outcomes: list[dict[str, Any]] | None = [] if keep else None
        self.done = 0
        self.failed: Counter[str] = Counter()

    def all(self, mod: str | None) -> Iterator[dict[str, Any]]:
        """Replay all letters that exist now, the oldest first. A letter that is made meanwhile is not tried again."""
        numbers = array("q", (head["letter_id"] for head in heads(self._client, mod)))
        return self.these(reversed(numbers))

    def these(self, numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Replay each and yield its outcome: letter_id, event_name, success, error, message, dead_letter (its new number).

        Raises:
            CliError: the network is gone, or refuses.
        """
        for number in numbers:
            outcome = _outcome(number, self._answer(number))
            if outcome["success"]:
                self.done += 1
            else:
                self.failed[str(outcome["error"] or "failed")] += 1
            if self._outcomes is not None:
                self._outcomes.append(outcome)
            yield outcome

    def _answer(self, number: int) -> dict[str, Any]:
        try:
            return self._client.post(f"/dead-letters/{number}/replay")
        except CliError as error:
            if error.code is not ExitCode.FAILED or error.error is None:
                raise
            return error.document()  # the network's own answer, about this letter

    def summary(self) -> dict[str, Any]:
        return {
            "success": not self.failed,
            "letters": self.done + self.failed.total(),
            "done": self.done,
            "failed": dict(self.failed.most_common()),
            "outcomes": self._outcomes or [],
        }

    def sentence(self) -> str:
        if not self.done and not self.failed:
            return "no dead letters to replay"
        failures = ", ".join(f"{count} {code}" for code, count in self.failed.most_common())
        return f"{self.done} of {self.done + self.failed.total()} done" + (f"; failed: {failures}" if failures else "")


def _outcome(number: int, answer: dict[str, Any]) -> dict[str, Any]:
    data = answer.get("data")
    named: dict[str, Any] = data if isinstance(data, dict) and not answer["success"] else {}
    return {
        "letter_id": number,
        "event_name": answer.get("event_name"),
        "success": answer["success"],
        "error": named.get("error"),
        "message": answer.get("message") or "",
        "dead_letter": named.get("dead_letter"),
    }
