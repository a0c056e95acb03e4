"""Print docs/errors.md: every code of a failure, with its HTTP status and its exit code. ``make docs``."""

# ruff: noqa: E501 (a table is easier to read with its rows in one line)

from __future__ import annotations

from pathlib import Path

from modvisor.ipc.errors import Code
from modvisor.supervisor.cli.terminal.exits import request_refused
from modvisor.supervisor.http.content.failures import status_of

PAGE = Path(__file__).with_name("errors.md")

_HEAD = """\
# Errors

A failure is a response with `success: false`, a `message` for people, and a code in `data.error` for programs. Programs compare codes, never messages. A mod may answer with codes of its own ([`Refused`](mods.md#handlers)).

*HTTP* is the status of the operator's API, and of the agents' for everything that is not an event: an event that was processed is answered with 200, and `success` says how it went. *Exit* is the exit code of a command that the network refused; `modvisor send` ends with 1 for every event that failed. The [clients](clients.md#errors) raise a class of the same name: `no_such_mod` is `NoSuchMod`.
"""

ABOUT: dict[str, dict[Code, tuple[str, str]]] = {
    "What was asked": {
        Code.BAD_INPUT: ("a value is missing or wrong; the message names it", "correct the value; `data.field` names it, if the mod says so"),
        Code.INVALID_EVENT: ("the event itself does not follow [the grammar](events.md)", "correct its name, source, destination or id"),
        Code.UNKNOWN_EVENT: ("no mod has a handler for the event, and it has no destination", "correct the name (the message guesses which was meant), or load the mod"),
        Code.BAD_CONFIG: ("a network file, an entry or a mod's config has mistakes; all are listed", "correct them; `modvisor validate` checks without a start"),
        Code.UNSERIALIZABLE: ("a value cannot travel: not in msgpack, or not in the JSON of the answer", "send plain values; the message names the place and the type"),
        Code.TOO_LARGE: ("the event, the answer or the request is larger than allowed", "send less, or raise the limit that the message names"),
        Code.LOOP: ("events cause one another without end", "end the circle in the mods that the message names"),
    },
    "Who asked": {
        Code.UNAUTHENTICATED: ("no secret or token, or a wrong one", "register again, or take a token that is valid: `modvisor token list`"),
        Code.FORBIDDEN: ("the sender is known, and may not do this", "give its group or token the right; see [who may what](operating.md#who-may-what)"),
        Code.ID_TAKEN: ("another agent has this id", "choose another id, or come back with its secret"),
        Code.TOO_MANY: ("a quota: agents of an address, wrong passwords, events per second, streams", "wait `data.retry_after` seconds, if it is there; else send less"),
    },
    "Who was addressed": {
        Code.NO_SUCH_MOD: ("no mod with this id is loaded", "`modvisor ps` lists them; the message guesses the id that was meant"),
        Code.NO_SUCH_AGENT: ("no agent with this id is registered", "the dashboard and `GET /admin/v1/agents` list those that are"),
        Code.NO_SUCH_CHANNEL: ("no such channel, or a private one that the sender is not in", "create it: `system.create_channel`"),
        Code.NO_SUCH_GROUP: ("the network file has no such group", "add it to `agent_groups`, then `modvisor reconfigure`"),
        Code.NOT_IN_AUDIENCE: ("the mod is there, but not for this sender", "`modvisor audience MOD` shows for whom it is"),
        Code.NOT_FOUND: ("what was asked for is not there: a page, a letter, a route", "compare the id with the list of them"),
        Code.CONFLICT: ("it does not fit what is there, or what is being done", "the message names what stands in the way; try again when it is done"),
        Code.INBOX_FULL: ("the inbox of the agent is full, and its policy is `reject`", "send again later; let the agent fetch its events"),
    },
    "How the mod fared": {
        Code.HANDLER_ERROR: ("the handler raised", "`modvisor logs MOD` has the traceback"),
        Code.TIMEOUT: ("the handler did not answer in time", "send again with the same id and a longer `timeout`, or mend the handler"),
        Code.OVERLOADED: ("the mod's queue is full, or the network has no room for more", "send again later, or raise `limits.queue`, `limits.concurrency`, `workers`"),
        Code.MOD_CRASHED: ("the process died during the event, and the event is not repeated", "`modvisor crashes MOD`; send again if that does no harm"),
        Code.MOD_UNLOADED: ("the mod was unloaded before the event was answered", "load it, and send again"),
        Code.MOD_AWAY: ("the mod does not serve: quarantined, failed, stopped, or being replaced", "`modvisor status` says why, and how to bring it back"),
        Code.LEASE_LOST: ("this node of the cluster holds no lease, so it must not run an exclusive mod", "nothing: another node takes the mod over, and the node joins again by itself; `modvisor node ls` shows it"),
        Code.LIMIT_HIT: ("the handler met a limit of memory, disk or descriptors; the mod lives", "raise the limit that `data.limit` names, or need less"),
        Code.DEAD_LETTERED: ("the event was given up after it had killed its mod", "`modvisor dlq show ID`; mend the mod, then `modvisor dlq replay ID`"),
        Code.PENDING: ("the event is accepted and durable, and not answered yet", "nothing; or send it again with the same id to get the answer"),
        Code.STORAGE_FULL: ("what must be on disk cannot be written: the disk or a bound is full", "free space, or raise `journal.durable_events`, `journal.durable_bytes`"),
        Code.NOT_RUNNING: ("the network, or what was asked of it, is ending", "start it, and send again"),
    },
    "Many machines": {
        Code.CLUSTER_DOWN: ("the NATS servers do not answer, or this node has no connection to them", "nothing, it connects again by itself; more than half of the servers must be up"),
        Code.CLUSTER_REFUSED: ("the NATS servers, or the network on them, do not take this node", "the message names what to change: credentials, TLS, permissions, `cluster.secret`, a version"),
    },
    "Loading a mod": {
        Code.IMPORT_FAILED: ("the mod's code cannot be imported; the message names file and line", "correct the file, or install what is missing"),
        Code.NO_MOD_CLASS: ("the module has no class that subclasses `BaseMod`", "write one, or name it in the path: `pkg.module:Class`"),
        Code.AMBIGUOUS_MOD_CLASS: ("the module has several", "name one in the path: `pkg.module:Class`"),
        Code.INVALID_MOD: ("the class is no mod as it stands: a handler, a pattern, a signature", "correct what the message names"),
        Code.INITIALIZE_FAILED: ("`initialize` or `activate` raised or returned False", "`modvisor logs MOD` has the traceback"),
        Code.START_TIMEOUT: ("the mod did not start within `limits.start_timeout`", "raise it, or do less in `initialize`"),
        Code.NOT_READY: ("`check_ready` said no", "see what it checks"),
        Code.START_FAILED: ("the process, the network or a server could not be started", "the message says why"),
        Code.ALREADY_LOADED: ("a mod with this id is loaded", "`modvisor reload` or `modvisor swap`, or give another id"),
        Code.STATE_REFUSED: ("the new version refused the old one's state; the old one serves", "accept it in `set_state`, or unload and load"),
        Code.WRONG_VERSION: ("the version that was asked for is not there", "ask for one that is; the message says what was found"),
        Code.BAD_PYTHON: ("the mod's Python is missing, too old, or cannot be started", "correct `python` in its entry"),
        Code.BAD_COMMAND: ("the mod's program is missing or cannot be run", "correct `command` in its entry"),
        Code.NOT_CONFINED: ("the sandbox that the file asks for cannot be had on this host", "`modvisor doctor` says what is missing; or `sandbox_fallback: warn`"),
        Code.UNMET_REQUIREMENT: ("a mod that this one requires is missing, or has another version", "load it; see [mods that require mods](versions.md#mods-that-require-mods)"),
        Code.DEPENDENCY_FAILED: ("a mod that this one requires did not start", "mend that mod first"),
        Code.NEEDED: ("other mods need the mod; `data.needed_by` names them", "unload them first, or `--cascade`"),
    },
    "The pipe": {
        Code.PROTOCOL_ERROR: ("a worker broke [the protocol](protocol.md)", "mend the worker; with the bundled one, report it"),
        Code.PROTOCOL_MISMATCH: ("a worker speaks another version of the protocol", "upgrade the environment of the worker"),
        Code.BUSY: ("too many requests wait already", "send again later"),
        Code.INTERNAL: ("a mistake of modvisor", "the network's log has the traceback: report it"),
    },
}  # fmt: skip


def printed() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *(_section(title, about) for title, about in ABOUT.items())])


def _section(title: str, about: dict[Code, tuple[str, str]]) -> str:
    rows = "".join(
        f"| `{code}` | {meaning} | {what_to_do} | {status_of(code)} | {_exit_code(code)} |\n"
        for code, (meaning, what_to_do) in about.items()
    )
    return f"## {title}\n\n| code | meaning | what to do | HTTP | exit |\n|---|---|---|---|---|\n{rows}"


def _exit_code(code: Code) -> int:
    return request_refused({"data": {"error": str(code)}}).code.value


if __name__ == "__main__":
    if not PAGE.exists() or PAGE.read_text("utf-8") != printed():
        PAGE.write_text(printed(), "utf-8")
