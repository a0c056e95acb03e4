"""The examples in each command's ``--help``. A test runs every one of them."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "init": (
        ("modvisor init", "make network.yaml and a first mod in this folder"),
        ("modvisor init shop --name 'My shop'", "make them in the new folder shop"),
    ),
    "run": (
        ("modvisor run", "run ./network.yaml until Ctrl-C"),
        ("modvisor run network.yaml --watch", "reload mods when their files are saved"),
        ("modvisor run --port 0 --log-level debug", "on a free port, with all messages"),
    ),
    "start": (
        ("modvisor start", "run ./network.yaml in the background, and wait until it is ready"),
        ("modvisor start network.yaml --port 0", "on a free port"),
    ),
    "status": (
        ("modvisor status", "does it run, and is anything wrong?"),
        ("modvisor status --json", "the same for a program"),
    ),
    "validate": (
        ("modvisor validate", "check ./network.yaml"),
        ("modvisor validate network.yaml --json", "all mistakes as JSON"),
    ),
    "doctor": (
        ("modvisor doctor", "examine this host, and ./network.yaml if it is there"),
        ("modvisor doctor network.yaml", "what would keep this network from starting?"),
    ),
    "reconfigure": (("modvisor reconfigure", "apply the changed network.yaml"),),
    "backup": (("modvisor backup network.db.copy", "copy the journal, also while the network runs"),),
    "restore": (("modvisor restore network.db.copy", "put it back, while no network runs"),),
    "open": (
        ("modvisor open --print", "a link that logs in once, for a browser elsewhere"),
        ("modvisor open --scope read --print", "for somebody who only looks"),
    ),
    "top": (
        ("modvisor top", "watch the mods; q ends it"),
        ("modvisor top --plain -n 1", "one table, to any terminal or file"),
    ),
    "graph": (
        ("modvisor graph", "who sends to whom, and who needs whom"),
        ("modvisor graph --format svg > network.svg", "as a drawing"),
    ),
    "stop": (
        ("modvisor stop", "drain the mods, end the network, and wait for the end"),
        ("modvisor stop --timeout 2m", "wait longer"),
    ),
    "version": (("modvisor version --json", "versions of modvisor and Python, as JSON"),),
    "import": (
        ("modvisor import theirs.yaml", "print the file of an OpenAgents network as one of modvisor"),
        ("modvisor import theirs.yaml -o ours.yaml", "write it"),
    ),
    "invite": (("modvisor invite create --uses 3", "a code for three agents"),),
    "invite create": (
        ("modvisor invite create", "a code for one agent, for a day"),
        ("modvisor invite create --agent 'bot-*' --uses 5 --expires 7d", "for five bots, for a week"),
    ),
    "invite list": (("modvisor invite list", "invites that can still be used"),),
    "invite revoke": (("modvisor invite revoke INVITE", "take an invite back"),),
    "token": (("modvisor token list", "tokens, their scopes, and when they end"),),
    "token create": (
        ("modvisor token create ci --scope operate --expires 30d", "for a deployment, for a month"),
        ("modvisor token create eve --scope read", "for a person who only looks"),
    ),
    "token list": (("modvisor token list", "tokens, their scopes, and when they end"),),
    "token revoke": (("modvisor token revoke ci", "the next request with it is refused"),),
    "audit": (("modvisor audit show --since 1d", "what was done since yesterday"),),
    "audit show": (
        ("modvisor audit show -n 20", "the newest 20 records"),
        ("modvisor audit show --what mod --since 7d", "loads, reloads … of the last week"),
    ),
    "audit verify": (("modvisor audit verify", "was anything changed or removed?"),),
    "cluster": (("modvisor cluster up", "a NATS server for the nodes of ./network.yaml"),),
    "cluster up": (
        ("modvisor cluster up", "in the background, on a free port of this machine"),
        ("modvisor cluster up --port 4222", "on this port"),
    ),
    "cluster down": (("modvisor cluster down", "end that server; what it keeps stays"),),
    "cluster import": (
        ("modvisor cluster import .modvisor", "what a network on one machine has left, into the cluster"),
        ("modvisor cluster import .modvisor --replace", "in the place of what the cluster holds"),
    ),
    "cluster export": (("modvisor cluster export .modvisor", "back, for a network on one machine"),),
    "cluster status": (("modvisor cluster status", "do all nodes answer, and are the servers there?"),),
    "node": (("modvisor node ls", "the nodes of the cluster"),),
    "node ls": (
        ("modvisor node ls", "health, load, versions, and which mods run where"),
        ("modvisor node ls --json", "the same for a program"),
    ),
    "node drain": (("modvisor node drain b", "before b is stopped for an upgrade"),),
    "hash-password": (("printf %s secret | modvisor hash-password", "the password_hash for a group"),),
    "mods": (("modvisor mods", "what could be loaded, and from where"),),
    "ps": (
        ("modvisor ps", "the loaded mods"),
        ("modvisor ps --wide", "also what confines each"),
        ("modvisor ps --json", "every figure, as JSON"),
    ),
    "stats": (
        ("modvisor stats", "figures of the network"),
        ("modvisor stats wiki", "all figures of one mod"),
    ),
    "load": (
        ("modvisor load modvisor.mods.workspace.analytics", "a mod of an installed package"),
        ("modvisor load ./echo --id echo2 --limit memory=512MB", "the mod in mods/echo, with a limit"),
        ("""modvisor load ./echo --id echo@2 --percent 10""", "a second version, for a tenth of the sources"),
    ),
    "unload": (
        ("modvisor unload echo2", "drain it, and end its process"),
        ("modvisor unload wiki --cascade", "also the mods that need it"),
    ),
    "reload": (
        ("modvisor reload wiki", "fresh code, without losing an event"),
        ("""modvisor reload wiki --config '{"public": true}'""", "with another config"),
    ),
    "swap": (("modvisor swap analytics ./echo --id echo3 --alias", "./echo in its place; 'analytics' still names it"),),
    "restart": (("modvisor restart wiki", "a new process; also out of a quarantine"),),
    "audience": (
        ("modvisor audience echo", "who has which version"),
        ("modvisor audience echo@2 --percent 50", "half of the sources"),
        ("modvisor audience echo@2 --agent alice --only", "one agent, and nobody else"),
    ),
    "promote": (("modvisor promote echo@2", "everybody has this version now"),),
    "rollback": (("modvisor rollback echo", "as before the last promotion"),),
    "crashes": (
        ("modvisor crashes", "the crashes of all mods"),
        ("modvisor crashes wiki --json", "those of one mod, as JSON"),
    ),
    "logs": (
        ("modvisor logs wiki -n 20", "the last 20 lines of one mod"),
        ("modvisor logs wiki echo", "two mods, in the order of time"),
        ("modvisor logs -f", "new lines of all mods, until Ctrl-C"),
    ),
    "send": (
        ("""modvisor send wiki.page.create '{"path": "home", "title": "Home", "content": "Hi"}'""", "ask a mod"),
        ("""modvisor send wiki.page.get '{"path": "home"}' --as agent:alice --timeout 5s""", "as an agent"),
        ("modvisor send test.ping @payload.json --to mod:echo", "the payload of a file, to one mod"),
    ),
    "events": (
        ("modvisor events 'wiki.*'", "each event of the wiki with its outcome, until Ctrl-C"),
        ("modvisor events --json -n 100", "record a hundred, for 'modvisor replay'"),
    ),
    "replay": (
        ("modvisor replay events.jsonl", "send recorded events again"),
        ("modvisor replay events.jsonl --new-ids --concurrency 8", "as new events, eight at a time"),
    ),
    "agent": (
        ("modvisor agent alice", "be an agent; /help lists what can be typed"),
        ("echo '@alice the build is done' | modvisor agent builder", "send one message"),
        ("modvisor agent forget alice", "delete what the network keeps of an agent"),
    ),
    "dlq": (("modvisor dlq ls", "events that were given up"),),
    "dlq ls": (
        ("modvisor dlq ls", "the newest 50"),
        ("modvisor dlq ls echo -n 10", "of one mod"),
    ),
    "dlq show": (("modvisor dlq show LETTER", "the event with its payload, and the crash"),),
    "dlq replay": (
        ("modvisor dlq replay LETTER", "give one event to its mod again"),
        ("modvisor dlq replay --all echo", "all of one mod"),
    ),
    "dlq purge": (
        ("modvisor dlq purge --mod echo --older-than 30d", "old letters of one mod"),
        ("modvisor dlq purge --all", "all letters"),
    ),
    "new": (("modvisor new price_watch", "the folder mods/price_watch, with a mod and its test"),),
    "schema": (
        ("modvisor schema > network.schema.json", "for the editor of network.yaml"),
        ("modvisor schema mod", "that of mod.yaml"),
    ),
    "completion": (
        ("modvisor completion bash > completion.bash", "for this shell: source completion.bash"),
        ("modvisor completion fish", "the script of fish"),
    ),
}
"""By command: example command lines, each with what it does. INVITE and LETTER stand for what a list shows."""
