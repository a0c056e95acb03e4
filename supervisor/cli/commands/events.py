"""Commands about events: send one, replay many, watch all."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..client.connect import connect
from ..client.meant import event_names as handled
from ..client.meant import meant, mod_ids
from ..options.arguments import age, json_object
from ..options.complete import event_names
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, complain, printable, show


def send(
    settings: Settings,
    event_name: Annotated[
        str,
        typer.Argument(metavar="EVENT_NAME", help="An event name, such as wiki.page.get.", autocompletion=event_names),
    ],
    payload: Annotated[
        str, typer.Argument(metavar="[JSON]", help="The payload: a JSON object, @FILE, or - for standard input.")
    ] = "{}",
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DEST", help="agent:ID, channel:ID, group:ID, mod:ID or agent:broadcast."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--as", metavar="SOURCE", help="The source of the event, such as agent:alice.")
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="TIME", help="How long to wait for the answer. [dim](default: the network's)[/dim]"
        ),
    ] = None,
) -> None:
    """Send one event and print the answer."""
    seconds = None if timeout is None else age(timeout, "--timeout")
    given = {"destination_id": to, "source_id": source, "timeout": seconds}
    event: dict[str, Any] = {"event_name": event_name, "payload": json_object(payload, "the payload")}
    event |= {name: value for name, value in given.items() if value is not None}
    client, to_mod = connect(settings), (to or "").removeprefix("mod:")
    with (
        meant(event_name, ["unknown_event"], lambda: handled(client)),
        meant(to_mod, ["no_such_mod"], lambda: mod_ids(client)),
    ):
        response = client.post("/events", event)
    Output(as_json=settings.json).document(response, lambda: _show_answer(response))


def _show_answer(response: dict[str, Any]) -> None:
    from ..render.tables import json_text

    message, data = response.get("message"), response.get("data")
    parts: list[Any] = [printable(message)] if message else []
    if data not in (None, {}):
        parts.append(json_text(data))
    show(*parts or ["ok"])


def events(
    settings: Settings,
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="[PATTERN]", help="A pattern, such as wiki.* or wiki.page.get.", autocompletion=event_names
        ),
    ] = "*",
    count: Annotated[int | None, typer.Option("--count", "-n", metavar="N", min=1, help="Stop after N events.")] = None,
) -> None:
    """Watch events as they finish, each with its response, until Ctrl-C."""
    from ..render.events import event_line

    output = Output(as_json=settings.json)
    for record in connect(settings).stream("/events", pattern=pattern, limit=count, node=settings.named_node):
        if "listening" in record:
            _say_listening(output, record, pattern)
        else:
            output.item(record, lambda record=record: event_line(record))


def _say_listening(output: Output, record: dict[str, Any], pattern: str) -> None:
    """Say on stderr from when on no event is missed."""
    if output.as_json:
        output.item(record, str)
    else:
        output.note(f"watching {pattern}; Ctrl-C ends it")


def replay(
    settings: Settings,
    recording: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A JSONL file: per line an event, or a line of 'events --json'. -: stdin."),
    ],
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, help="How many events are in flight at once.")
    ] = 64,
    any_order: Annotated[
        bool, typer.Option("--any-order", help="Do not wait for the event before of the same source.")
    ] = False,
    new_ids: Annotated[
        bool,
        typer.Option("--new-ids", help="Give every event a new id. The network answers a known id from memory."),
    ] = False,
) -> None:
    """Send the events of a file, in order per source, and count the outcomes."""
    from ..client.replay import Replay, open_events, progress
    from ..render.events import replay_table

    how = {"concurrency": concurrency, "in_order": not any_order}
    run = Replay(connect(settings), how, new_ids=new_ids, on_malformed=complain)
    output = Output(as_json=settings.json)
    try:
        with open_events(recording) as source, progress(source, shown=not settings.json) as moved:
            run.send(source, moved)
    except CliError as error:  # report what was sent before the error, and the error, in one document
        raise CliError(error.code, str(error), {**run.summary.to_dict(), **error.document()}) from None
    except KeyboardInterrupt:
        document = {**run.summary.to_dict(), "success": False, "data": {"error": "interrupted"}}
        raise CliError(ExitCode.INTERRUPTED, run.summary.sentence(), document) from None
    summary = run.summary.to_dict()
    output.document(summary, lambda: show(replay_table(summary)))
    if run.summary.troubled:
        raise typer.Exit(ExitCode.FAILED)
