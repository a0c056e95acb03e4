"""Commands about the audit. They read its files, so no network needs to run, and none can answer for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...causes import cause
from ..options.arguments import age
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, printable

if TYPE_CHECKING:
    from ...audit import Head

State = Annotated[
    Path | None,
    typer.Option("--state", metavar="FOLDER", help="The storage folder of the network, instead of a network file."),
]


def show(
    settings: Settings,
    state: State = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="Show the newest N.")] = 50,
    who: Annotated[str | None, typer.Option("--who", metavar="TEXT", help="Only of whose name it is a part.")] = None,
    what: Annotated[
        str | None, typer.Option("--what", metavar="NAME", help="Only with this name, or below it: mod, token.create.")
    ] = None,
    on: Annotated[str | None, typer.Option("--on", metavar="ID", help="Only what was done to it.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only the last 90s, 12h, 7d …")] = None,
) -> None:
    """Show who did what, the oldest first."""
    import time

    from ...audit import newest, told_time

    after = "" if since is None else told_time(time.time() - age(since, "--since"))

    def wanted(each: dict[str, Any]) -> bool:
        name = str(each.get("what"))
        return (
            (who is None or who in str(each.get("who")) or who in str(each.get("from")))
            and (what is None or name == what or name.startswith(f"{what}."))
            and on in (None, each.get("on"))
            and each["at"] >= after
        )

    found = _read(lambda folder: newest(folder, wanted, limit), _folder(settings, state))
    output = Output(as_json=settings.json)
    output.document({"records": found}, lambda: print("\n".join(map(_line, found)) or "no records"))


def verify(
    settings: Settings,
    state: State = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="FILE", help="The key, if the network file does not name it.")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="NUMBER:MAC", help="A newest record that the system's log or you have noted."),
    ] = None,
) -> None:
    """Find lines of the audit that were changed, removed, reordered or cut. Exit code 1: there are some."""
    from ...audit import verify as verify_files

    folder = _folder(settings, state)
    key, sealed, told = _key(settings, state, folder, key_file), _sealed(folder), _head(head)
    verdict = _read(lambda audit: verify_files(audit, key, sealed, told), folder)
    if not verdict.lines and sealed is None and told is None:
        raise CliError(ExitCode.FAILED, f"{folder / 'audit'} holds no audit")
    document = {
        "success": verdict.is_sound, "lines": verdict.lines, "first": verdict.first, "last": verdict.last,
        "findings": verdict.findings, "count": verdict.count, "notes": verdict.notes,
    }  # fmt: skip
    output = Output(as_json=settings.json)
    output.document(document, lambda: print("\n".join(_verdict(document))))
    if not verdict.is_sound:
        raise typer.Exit(ExitCode.FAILED)


def _line(each: dict[str, Any]) -> str:
    detail = " ".join(f"{key}={value}" for key, value in (each.get("detail") or {}).items() if value not in (None, ""))
    came = f" from {each['from']}" if each.get("from") else ""
    on = f" {each['on']}" if each.get("on") else ""
    return printable(
        f"{each['at']}  {each.get('who')}{came}  {each.get('what')}{on}  {each.get('outcome')}  {detail}".rstrip()
    )


def _verdict(found: dict[str, Any]) -> list[str]:
    lines = [printable(f"  {text}") for text in found["findings"]]
    if found["count"] > len(lines):
        lines.append(f"  … and {found['count'] - len(lines)} more")
    lines += [printable(f"note: {text}") for text in found["notes"]]
    if found["success"]:
        return [f"the audit is sound: {found['lines']} lines, records {found['first']} to {found['last']}", *lines]
    return [f"the audit is not as the network wrote it: {found['count']} findings in {found['lines']} lines", *lines]


def _read(read: Any, folder: Path) -> Any:
    try:
        return read(folder / "audit")
    except OSError as error:
        text = f"{error.filename or folder} cannot be read: {cause(error, error.filename or folder)}"
        raise CliError(ExitCode.FAILED, text) from None


def _folder(settings: Settings, state: Path | None) -> Path:
    """Return the storage folder."""
    from ..client.target import storage_of

    if settings.url or settings.socket:
        raise CliError(
            ExitCode.USAGE,
            "the audit is read from its files, on the machine of the network: name the network file, or --state",
        )
    return state.absolute() if state is not None else storage_of(settings.network_file, settings.named_node)


def _key(settings: Settings, state: Path | None, folder: Path, given: Path | None) -> bytes:
    from ...audit import NoKey, read_key

    file = given or (None if state is not None else _key_file(settings)) or folder / "audit.key"
    try:
        return read_key(file)
    except NoKey as error:
        raise CliError(ExitCode.FAILED, str(error).partition("; make one")[0]) from None


def _key_file(settings: Settings) -> Path | None:
    from ..client.target import audit_config

    return audit_config(settings, "where the key of the audit is; name it with --key-file FILE").key_file


def _sealed(folder: Path) -> tuple[int, bytes] | None:
    import sqlite3

    from ...journal import JournalAtRest, StateDir

    database = StateDir(folder).database
    if not database.exists():
        return None
    try:
        with JournalAtRest(database) as journal:
            return journal.audit_head()
    except sqlite3.Error as error:
        raise CliError(ExitCode.FAILED, f"{database} cannot be read: {error}") from None


def _head(text: str | None) -> Head | None:
    from ...audit import Head

    if text is None:
        return None
    number, _, mac = text.partition(":")
    if not (number.isascii() and number.isdigit() and len(mac) >= 16 and set(mac) <= set("0123456789abcdef")):
        raise CliError(ExitCode.USAGE, f"--head {text}: expected NUMBER:MAC, as the system's log has it")
    return Head(int(number), mac)
