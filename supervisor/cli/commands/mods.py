"""Commands about mods: see them, load, unload and reload them, read their logs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..client.connect import connect
from ..client.meant import meant, mod_ids
from ..client.meant import mod_paths as known_paths
from ..options.arguments import age, assigned, json_object, plain
from ..options.complete import limits, loaded_mods, mod_paths
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, printable, show
from .versions import Agents, Groups, Percent, audience_of

if TYPE_CHECKING:
    from ..client.client import Client

Mod = Annotated[str, typer.Argument(metavar="MOD", help="The mod's id or path.", autocompletion=loaded_mods)]
Config = Annotated[
    str | None,
    typer.Option("--config", metavar="JSON", help="The mod's config: a JSON object, @FILE, or - for standard input."),
]


def ps(
    settings: Settings,
    wide: Annotated[bool, typer.Option("--wide", "-w", help="Also show what confines each mod.")] = False,
) -> None:
    """List the loaded mods with their resources and traffic."""
    answer = connect(settings).get("/mods", node=settings.named_node)
    Output(as_json=settings.json).document(answer, lambda: _show_mods(answer, wide=wide))


def _show_mods(answer: dict[str, Any], *, wide: bool) -> None:
    from ..render.mods import mods_table, troubles
    from ..render.nodes import silent

    mods = answer["mods"]
    show(mods_table(mods, wide=wide))
    for trouble in (*troubles(mods), *silent(answer)):
        print(printable(trouble))


def stats(
    settings: Settings,
    mod: Annotated[
        str | None, typer.Argument(metavar="[MOD]", help="Only this mod's figures.", autocompletion=loaded_mods)
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="If no network runs, show the figures that the last one left.")
    ] = False,
) -> None:
    """Show the figures of the network, or of one mod."""
    output, client = Output(as_json=settings.json), connect(settings)
    try:
        answer = client.get("/stats", node=settings.named_node)
    except CliError as error:
        answer = _last_stats(client, output, error, last)
    figures = answer if mod is None else _figures_of(mod, answer)
    output.document(figures, lambda: _show_stats(figures, of_mod=mod is not None))


def _last_stats(client: Client, output: Output, nobody: CliError, wanted: bool) -> dict[str, Any]:
    from ..at_rest.left import last_stats, left
    from ..render.figures import clock

    if not wanted:
        if nobody.code is ExitCode.NO_NETWORK and client.target.storage is not None:
            text = f"{nobody}; 'modvisor stats --last' shows what the last one left"
            raise CliError(nobody.code, text) from None
        raise nobody
    found = left(client, output, nobody, last_stats)
    output.note(f"figures of {clock(found['at'], date=True)}")
    return found


def _figures_of(mod: str, stats: dict[str, Any]) -> dict[str, Any]:
    mods: dict[str, dict[str, Any]] = stats["mods"]
    found = mods.get(mod) or next((each for each in mods.values() if each["mod_path"] == mod), None)
    if found is None and (on := [str(each["node"]) for each in mods.values() if each["mod_id"] == mod]):
        raise CliError(ExitCode.FAILED, f"mod {mod!r} runs on {', '.join(on)}; name one of them with --node")
    if found is None:
        from ...nearest import did_you_mean

        hint = did_you_mean(mod, mods) or f" (loaded: {', '.join(mods) or 'none'})"
        raise CliError(ExitCode.FAILED, f"no mod {mod!r} is loaded{hint}")
    return found


def _show_stats(figures: dict[str, Any], *, of_mod: bool) -> None:
    from ..render.mods import mods_table
    from ..render.nodes import silent
    from ..render.stats import mod_table, network_table

    if of_mod:
        show(mod_table(figures))
    else:
        show(network_table(figures), "", mods_table(figures["mods"].values()))
        for text in silent(figures):
            print(printable(text))


def load(
    settings: Settings,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="pkg.mods.wiki, pkg.module:Class, or ./NAME (mods/NAME beside the network file).",
            autocompletion=mod_paths,
        ),
    ],
    mod_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The mod's id. [dim](default: the last part of PATH)[/dim]")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="Which version, if the mod's folder has several.")
    ] = None,
    python: Annotated[
        str | None,
        typer.Option("--python", metavar="PATH", help="Run it under this Python, or in this virtual environment."),
    ] = None,
    add_path: Annotated[
        list[str] | None,
        typer.Option("--add-path", metavar="DIR", help="A folder to import from, before all others; may be repeated."),
    ] = None,
    config: Config = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="An environment variable of the mod; may be repeated."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            metavar="KEY=VALUE",
            autocompletion=limits,
            help="One of the mod's limits, as in the network file: memory=512MB, cpu=0.5 …; may be repeated.",
        ),
    ] = None,
    durable: Annotated[
        bool, typer.Option("--durable", help="Keep its events on disk until they are answered.")
    ] = False,
    max_attempts: Annotated[
        int | None,
        typer.Option(
            "--max-attempts", metavar="N", help="After how many processes that it killed an event is given up."
        ),
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option("--checkpoint-every", metavar="TIME", help="How often to keep the mod's state: 30s, 5m …"),
    ] = None,
    watch: Annotated[
        bool | None, typer.Option("--watch/--no-watch", help="Reload it when its files are saved, or never.")
    ] = None,
    percent: Percent = None,
    group: Groups = None,
    agent: Agents = None,
) -> None:
    """Load a mod into the running network."""
    given = {
        "id": mod_id,
        "version": version,
        "python": python and _from_here(python),
        "paths": [_from_here(folder) for folder in add_path] if add_path else None,
        "config": None if config is None else json_object(config, "--config"),
        "env": assigned(env, "--env") if env else None,
        "limits": _limits(limit) if limit else None,
        "durable": durable or None,
        "max_attempts": max_attempts,
        "checkpoint_every": None if checkpoint_every is None else plain(checkpoint_every),
        "watch": watch,
        "audience": audience_of(percent, group, agent) or None,
    }
    body = {"path": path} | {key: value for key, value in given.items() if value is not None}
    client = connect(settings)
    with meant(path, ["import_failed", "no_such_mod"], lambda: known_paths(client)):
        _report(settings, client.post("/mods", body))


def _from_here(name: str) -> str:
    """Make a path absolute: it is relative to where the command is given. A plain word is a command on PATH."""
    path = Path(name).expanduser()
    return str(path.absolute()) if os.sep in name or path.exists() else name


def _limits(assignments: list[str]) -> dict[str, Any]:
    """Return the limits as given; the network checks them by the rules of its file."""
    texts = assigned(assignments, "--limit", "KEY=VALUE such as memory=512MB")
    return {key: plain(value) for key, value in texts.items()}


def unload(
    settings: Settings,
    mod: Mod,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="TIME", help="How long draining and ending may take. [dim](default: the mod's)[/dim]"
        ),
    ] = None,
    cascade: Annotated[bool, typer.Option("--cascade", help="Unload the mods that need it first.")] = False,
) -> None:
    """Drain a mod and end its process."""
    from ..client.client import segment

    seconds = None if timeout is None else age(timeout, "--timeout", zero=True)
    query = {"timeout": seconds, "cascade": 1 if cascade else None}
    _report(settings, connect(settings).request("DELETE", f"/mods/{segment(mod)}", query=query))


def reload(
    settings: Settings,
    mod: Mod,
    config: Config = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="MOD_PATH", help="Take its code from here from now on.")
    ] = None,
) -> None:
    """Replace a mod by its fresh code without losing an event. The old process stays if the new one fails."""
    from ..client.client import segment

    body: dict[str, Any] = {} if config is None else {"config": json_object(config, "--config")}
    if path is not None:
        body["path"] = path
    _report(settings, connect(settings).post(f"/mods/{segment(mod)}/reload", body))


def swap(
    settings: Settings,
    mod: Mod,
    path: Annotated[str, typer.Argument(metavar="MOD_PATH", help="The mod that takes its place.")],
    mod_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The id of the new mod. [dim](default: its name)[/dim]")
    ] = None,
    config: Config = None,
    alias: Annotated[bool, typer.Option("--alias", help="The old id goes on naming the new mod.")] = False,
) -> None:
    """Put another mod in the place of a mod without losing an event. The old one stays if the new one fails."""
    from ..client.client import segment

    given = {
        "id": mod_id,
        "config": None if config is None else json_object(config, "--config"),
        "alias": alias or None,
    }
    body = {"path": path} | {key: value for key, value in given.items() if value is not None}
    _report(settings, connect(settings).post(f"/mods/{segment(mod)}/swap", body))


def restart(settings: Settings, mod: Mod) -> None:
    """Give a mod a new process of its last good version. Brings a mod that is down back."""
    from ..client.client import segment

    _report(settings, connect(settings).post(f"/mods/{segment(mod)}/restart", {}))


def crashes(
    settings: Settings,
    mod: Annotated[
        str | None, typer.Argument(metavar="[MOD]", help="Only this mod's crashes.", autocompletion=loaded_mods)
    ] = None,
) -> None:
    """Show why processes of mods crashed: cause, last words, events in flight."""
    from ..at_rest import left as at_rest

    output, client = Output(as_json=settings.json), connect(settings)
    try:
        with meant(mod or "", ["no_such_mod"], lambda: mod_ids(client)):
            answer = client.request("GET", "/crashes", query={"mod": mod, "node": settings.named_node})
    except CliError as error:
        answer = {"crashes": at_rest.left(client, output, error, lambda journal: at_rest.crashes(journal, mod))}
    output.document(answer, lambda: _show_crashes(answer))


def _show_crashes(answer: dict[str, Any]) -> None:
    from ..render.crashes import crash_text
    from ..render.nodes import silent

    reports = answer["crashes"]
    for text in silent(answer):
        print(printable(text))
    if not reports:
        print("no mod has crashed")
    for report in reports:
        print(printable(crash_text(report)), end="\n\n")


def _report(settings: Settings, response: dict[str, Any]) -> None:
    Output(as_json=settings.json).document(response, lambda: print(printable(_sentence(response))))


def _sentence(response: dict[str, Any]) -> str:
    data = response.get("data") or {}
    pid, others = data.get("pid"), data.get("dependencies") or data.get("unloaded", [])[:-1]
    with_others = f", and with it {', '.join(others)}" if others else ""
    pids = ", ".join(map(str, data.get("pids", [])))
    process = f" (pid {pid})" if pid else f" (pids {pids})" if pids else ""
    return f"{response.get('message')}{process}{with_others}"


def available(settings: Settings) -> None:
    """List the mods that could be loaded: beside the network file, on its mod_paths, bundled, installed."""
    output = Output(as_json=settings.json)
    client = connect(settings)
    try:
        found = client.get("/mods/available")["mods"]
    except CliError as error:
        # The file tells the same, except which mods are loaded.
        if error.code is not ExitCode.NO_NETWORK or client.target.storage is None:
            raise
        found = _mods_of_file(settings)
        output.note(f"no network is running for {client.target}; this is what one would find")
    output.document({"mods": found}, lambda: _show_available(found))


def _mods_of_file(settings: Settings) -> list[dict[str, Any]]:
    from ...config import ConfigError, load_config
    from ...sources import available as find_available

    try:
        config = load_config(settings.network_file)
    except ConfigError as error:
        raise CliError(ExitCode.BAD_CONFIG, f"{settings.network_file} has mistakes:\n{error}") from None
    return [{**mod.to_dict(), "loaded": []} for mod in find_available(config)]


def _show_available(found: list[dict[str, Any]]) -> None:
    from ..render.available import available_table

    show(available_table(found))
    for mod in found:
        if mod["error"]:
            print(printable(f"{mod['mod_path']}: {mod['error']}"))
