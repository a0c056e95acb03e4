"""Commands about events: send one, replay many, watch all."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from .arguments import json_object
from .complete import event_names
from .exits import CliError, ExitCode
from .output import Output, complain, printable, show
from .settings import Settings, connect


def send(
    settings: Settings,
    event_name: Annotated[
        str, typer.Argument(metavar="EVENT_NAME", help="Such as wiki.page.get.", autocompletion=event_names)
    ],
    payload: Annotated[
        str, typer.Argument(metavar="[JSON]", help="The payload: a JSON object, @FILE, or - for standard input.")
    ] = "{}",
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DEST", help="agent:ID, channel:ID, group:ID, mod:ID or agent:broadcast."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--as", metavar="SOURCE", help="Who sends it, such as agent:alice.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="For the answer. [dim](default: the network's)[/dim]"),
    ] = None,
) -> None:
    """Send one event and print the answer."""
    given = {"destination_id": to, "source_id": source, "timeout": timeout}
    event: dict[str, Any] = {"event_name": event_name, "payload": json_object(payload, "the payload")}
    event |= {name: value for name, value in given.items() if value is not None}
    response = connect(settings).post("/events", event)
    Output(as_json=settings.json).document(response, lambda: _show_answer(response))


def _show_answer(response: dict[str, Any]) -> None:
    from rich.json import JSON

    message, data = response.get("message"), response.get("data")
    parts: list[Any] = [printable(message)] if message else []
    if data not in (None, {}):
        parts.append(JSON(json.dumps(data, default=str), ensure_ascii=True))
    show(*parts or ["ok"])


def events(
    settings: Settings,
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Such as wiki.* or wiki.page.get.", autocompletion=event_names)
    ] = "*",
    count: Annotated[int | None, typer.Option("--count", "-n", metavar="N", min=1, help="Stop after N events.")] = None,
) -> None:
    """Watch events as they finish, each with its response, until Ctrl-C."""
    from .render.events import event_line

    output = Output(as_json=settings.json)
    for record in connect(settings).stream("/events", pattern=pattern, limit=count):
        if "listening" in record:
            _say_listening(output, record, pattern)
        else:
            output.item(record, lambda record=record: event_line(record))


def _say_listening(output: Output, record: dict[str, Any], pattern: str) -> None:
    """Whoever watches must know from when on no event is missed."""
    if output.as_json:
        output.item(record, str)
    else:
        output.note(f"watching {pattern}; Ctrl-C ends it")


def replay(
    settings: Settings,
    recording: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A JSONL file: an event, or a line of 'events --json', per line. -: stdin."
        ),
    ],
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, help="Events under way at once.")
    ] = 64,
    any_order: Annotated[
        bool, typer.Option("--any-order", help="Do not let an event wait for the former one of its source.")
    ] = False,
    new_ids: Annotated[
        bool,
        typer.Option("--new-ids", help="Give every event a new id: the network answers an id it knows from memory."),
    ] = False,
) -> None:
    """Send the events of a file, in their order per source, and count what became of them."""
    from .render.events import replay_table
    from .replay import Replay, open_events, progress

    how = {"concurrency": concurrency, "in_order": not any_order}
    run = Replay(connect(settings), how, new_ids=new_ids, on_malformed=complain)
    output = Output(as_json=settings.json)
    try:
        with open_events(recording) as source, progress(source, shown=not settings.json) as moved:
            run.send(source, moved)
    except CliError as error:  # what was sent until then is sent: say both, in one document
        raise CliError(error.code, str(error), {**run.summary.to_dict(), **error.document()}) from None
    except KeyboardInterrupt:
        document = {**run.summary.to_dict(), "success": False, "data": {"error": "interrupted"}}
        raise CliError(ExitCode.INTERRUPTED, run.summary.sentence(), document) from None
    summary = run.summary.to_dict()
    output.document(summary, lambda: show(replay_table(summary)))
    if run.summary.troubled:
        raise typer.Exit(ExitCode.FAILED)
