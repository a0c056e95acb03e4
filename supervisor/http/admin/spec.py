"""What the routes of the operator's API take and answer."""

from __future__ import annotations

from ....ipc.event import types_of_fields
from ...agents import MAX_LIFE, MAX_USES
from ...config import ENTRY_KEYS
from ...fleet import (
    LoadedMod,
    ModStats,
    NetworkStats,
    Plan,
    Reach,
    Resources,
    SupervisorStats,
    VersionStats,
    WorkerStats,
)
from ...journal import DeadLetter, LetterHead
from ...process import CrashReport
from ..agents.spec import EVENT_ANSWER
from ..routes.params import (
    Key,
    Spec,
    body_of,
    key_as_it_is,
    key_flag,
    key_list,
    key_number,
    key_object,
    key_text,
    key_whole,
    query_flag,
    query_number,
    query_text,
    query_whole,
)
from ..routes.schemas import (
    ANYTHING,
    OBJECT,
    TEXT,
    Schema,
    array_of,
    fields_of,
    mapping_of,
    merged,
    object_of,
    or_null,
    schema_of,
    without_required,
)

# No keys of the network file: they are of the operator's own requests, and stand in the API's description.
MAX_LINES = 100_000  # of a log in one request
MAX_TIMEOUT = 3600.0  # seconds an unload may take
MAX_CONCURRENCY = 1000  # events of one batch at the same time
MAX_LIMIT = 10**12  # events to watch
MAX_PAGE = 1000  # letters in one answer
MAX_LETTER_ID = 2**63 - 1  # the largest integer of SQLite
MAX_AGE = 1e9  # seconds
INTERVALS = 1.0, 60.0  # seconds between two lines of the live view

_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer"}
_FLAG: Schema = {"type": "boolean"}
_NDJSON = "application/x-ndjson"

DONE: Schema = object_of(success=_FLAG, message=TEXT, data=ANYTHING)
MOD: Schema = merged(fields_of(WorkerStats), fields_of(Reach), fields_of(ModStats, "figures", "reach"))
_LOADED = without_required(fields_of(LoadedMod), "pids")  # only of a mod with several workers
STATS: Schema = merged(
    fields_of(NetworkStats, "supervisor", "dynamic_mods", "mods"),
    object_of(
        supervisor=merged(fields_of(SupervisorStats, "resources"), fields_of(Resources)),
        dynamic_mods=object_of(count=_WHOLE, loaded=array_of(TEXT), details=mapping_of(_LOADED)),
        mods=mapping_of(MOD),
    ),
)

# -- the network

STATUS = Spec(
    "See name, process, address, mods and their states",
    object_of(
        name=TEXT, network_id=TEXT, pid=_WHOLE, version=TEXT, host=TEXT, port=or_null(_WHOLE), tls=_FLAG,
        uptime_seconds=_NUMBER, started_at=_NUMBER, storage=TEXT, config_file=or_null(TEXT),
        mods=array_of(object_of(mod_id=TEXT, state=TEXT)), agents=_WHOLE,
    ),
)  # fmt: skip
NODE = query_text("node", "one node of a cluster; `.` is the one that is asked. Without it: all nodes")
FIGURES = Spec("See everything that is counted and measured", STATS, query=(NODE,))
_OF_NODES = without_required(
    object_of(nodes=array_of(object_of(node=TEXT, answered=_FLAG, error=or_null(TEXT)))), "nodes"
)  # of a cluster
CLUSTER = Spec("See the nodes of a cluster: health, load, versions, and which mods run where", OBJECT)
DRAIN = Spec("Have a node hand over its mods, so that it can be stopped", DONE)
PROGRESS = Spec(
    "See the requests that are under way, and how far they are",
    object_of(
        under_way=array_of(
            object_of(
                id=_WHOLE, what=TEXT, on=or_null(TEXT), stage=TEXT, done=_WHOLE, total=or_null(_WHOLE), seconds=_NUMBER
            )
        )
    ),
)
BACKUP_PATH = key_text("path", "an absolute path on the machine of the network")
BACKUP = Spec("Copy the journal to a file", DONE, body=body_of(BACKUP_PATH))
RECONFIGURE = Spec("Read the network file again", DONE)
SHUTDOWN = Spec("Stop the network", DONE)

# -- mods


def _entry_key(name: str) -> Key:
    return key_as_it_is(name, ENTRY_KEYS[name].doc)


PATH = key_text(
    "path", "the path of the mod", missing="missing; give a mod_path such as 'modvisor.mods.workspace.wiki'"
)
NEW_PATH = key_text("path", "the path of the new mod", missing="missing; give the mod_path of the new mod")
MOVED_PATH = key_text("path", "the new place of the code, if it changes")
ID = key_text("id", ENTRY_KEYS["id"].doc)
ALIAS = key_flag("alias", "let the old id name the new mod")
CONFIG = key_object("config", ENTRY_KEYS["config"].doc)
_ENTRY = tuple(
    map(
        _entry_key,
        (
            "config", "env", "permissions", "speak_for", "limits", "restart", "delivery", "max_attempts", "durable",
            "suspects", "checkpoint_every", "probation", "reload", "workers", "partition_by", "overlap", "aliases", "watch",
            "audience", "version", "paths", "python", "command", "launch", "requires", "optional",
            "sandbox", "sandbox_fallback", "placement",
        ),
    )
)  # fmt: skip
MODS = Spec(
    "See the figures of each mod, in load order",
    merged(object_of(mods=array_of(MOD)), _OF_NODES),
    query=(NODE,),
)
AVAILABLE = Spec(
    "List the mods that could be loaded",
    object_of(
        mods=array_of(
            object_of(
                name=TEXT, mod_path=TEXT, source=TEXT, where=TEXT, versions=array_of(or_null(TEXT)), description=TEXT,
                requires=array_of(TEXT), optional=array_of(TEXT), config_schema=or_null(OBJECT), error=or_null(TEXT),
                loaded=array_of(TEXT),
            )
        )
    ),
)  # fmt: skip
LOAD = Spec("Load a mod", DONE, body=body_of(PATH, ID, *_ENTRY))
RELOAD = Spec("Replace a mod by itself with fresh code", DONE, body=body_of(MOVED_PATH, CONFIG, may_be_missing=True))
SWAP = Spec("Replace a mod by another mod", DONE, body=body_of(NEW_PATH, ID, ALIAS, *_ENTRY))
RESTART = Spec("Start a new process of the mod's last good version", DONE)
TIMEOUT = query_number("timeout", None, 0.0, MAX_TIMEOUT, "seconds in which the mod must have ended")
CASCADE = query_flag("cascade", "unload the mods that need it first")
UNLOAD = Spec("Unload a mod", DONE, query=(TIMEOUT, CASCADE))
LINES = query_whole("lines", 100, 0, MAX_LINES, "the number of past lines")
FOLLOW = query_flag("follow", "go on with new lines as they are printed")
_LINE = without_required(object_of(line=or_null(TEXT), node=TEXT), "node")
LOG = Spec("Read what a mod printed", _LINE, query=(LINES, FOLLOW, NODE), media_type=_NDJSON)
OF_MOD = query_text("mod", "id or path of one mod")
CRASHES = Spec(
    "See why processes of mods ended",
    merged(object_of(crashes=array_of(schema_of(CrashReport))), _OF_NODES),
    query=(OF_MOD, NODE),
)

DO = query_text("do", "`unload`, `reload`, `swap`, `restart`, `promote` or `rollback`")
PLAN = Spec("See what a command on a mod would do", schema_of(Plan), query=(DO,))
ONE_MOD = Spec(
    "See all that is known of one mod",
    merged(
        MOD,
        object_of(
            config=OBJECT, config_schema=ANYTHING, versions=array_of(schema_of(VersionStats)), default=or_null(TEXT),
            promotions=_WHOLE, storage_bytes=_WHOLE, checkpoint=or_null(object_of(version=TEXT, at=_NUMBER, bytes=_WHOLE)),
        ),
    ),
    query=(NODE,),
)  # fmt: skip

# -- versions

EVERYONE = key_flag("everyone", "remove the audience")
AUDIENCE = Spec("Compare the versions of a mod", DONE)
CHANGE_AUDIENCE = Spec(
    "Change whose events a version gets",
    DONE,
    body=body_of(
        EVERYONE,
        key_as_it_is("percent", "a share of the sources, 0 to 100"),
        key_as_it_is("groups", "groups of agents"),
        key_as_it_is("agents", "sources such as `alice` or `mod:shop`"),
    ),
)
PROMOTE = Spec("Give a version the events of all sources", DONE)
ROLLBACK = Spec("Undo the last promotion", DONE)

# -- events

_EVENT = types_of_fields()
_EVENT_KEYS = tuple(key_as_it_is(name, "as in an event", or_null(schema_of(kind))) for name, kind in _EVENT.items())
SEND = Spec("Send an event", EVENT_ANSWER, body=body_of(*_EVENT_KEYS, is_closed=False))
EVENTS = key_list("events", "the events, in their order", OBJECT, "events")
CONCURRENCY = key_whole("concurrency", 64, 1, MAX_CONCURRENCY, "the most events at the same time")
IN_ORDER = key_flag("in_order", "an event waits for the previous event of its source", default=True)
_RESULT = object_of(
    index=_WHOLE, event_id=or_null(TEXT), success=_FLAG, error=or_null(TEXT), delivered=or_null(_WHOLE),
    message=or_null(TEXT),
)  # fmt: skip
BATCH = Spec("Send many events", object_of(results=array_of(_RESULT)), body=body_of(EVENTS, CONCURRENCY, IN_ORDER))
PATTERN = query_text("pattern", "only events whose names match, such as `wiki.*`", "*")
WATCH_LIMIT = query_whole("limit", None, 1, MAX_LIMIT, "end after so many events")
SAMPLE = query_whole(
    "sample", None, 1, 10_000, 'at most so many events per second; a line `{"skipped": N}` counts the others'
)
BRIEF = query_flag("brief", "only ids, names, times and outcomes, in one flat object")
WATCH = Spec("Watch events", OBJECT, query=(PATTERN, WATCH_LIMIT, SAMPLE, BRIEF, NODE), media_type=_NDJSON)
_BRIEF = object_of(
    id=TEXT, name=TEXT, source=or_null(TEXT), to=or_null(TEXT), at=_NUMBER, ms=or_null(_NUMBER), success=or_null(_FLAG),
    error=or_null(TEXT), by=or_null(TEXT), delivered=or_null(_WHOLE),
)  # fmt: skip
_STEP = object_of(mod=TEXT, began_at=_NUMBER, ms=_NUMBER, outcome=TEXT, error=or_null(TEXT))
WAY = Spec(
    "See which mods an event went through, if that was recorded",
    object_of(event=_BRIEF, steps=array_of(_STEP), caused=array_of(TEXT), cause=or_null(TEXT)),
)

# -- dead letters

PAGE_SIZE = query_whole("limit", 100, 1, MAX_PAGE, "the most letters")
BEFORE = query_whole("before", None, 1, MAX_LETTER_ID, "only letters with a smaller number")
OLDER_THAN = query_number("older_than", None, 0.001, MAX_AGE, "only letters that are older, in seconds")
ALL = query_flag("all", "every letter")
LETTERS = Spec(
    "List the dead letters, newest first",
    object_of(dead_letters=array_of(schema_of(LetterHead)), next=or_null(_WHOLE)),
    query=(OF_MOD, PAGE_SIZE, BEFORE),
)
LETTER = Spec("Read a dead letter with its crash report", schema_of(DeadLetter))
REMOVE_LETTERS = Spec("Remove dead letters", DONE, query=(OF_MOD, OLDER_THAN, ALL))
REMOVE_LETTER = Spec("Remove a dead letter", DONE)
REPLAY = Spec(
    "Give the event of a dead letter to its mod again",
    merged(DONE, object_of(letter_id=_WHOLE, event_name=ANYTHING)),
)

# -- agents, and the audit

_AGENT = object_of(
    agent_id=TEXT, group=or_null(TEXT), registered_at=_NUMBER, last_seen_at=_NUMBER, connected=or_null(TEXT),
    inbox=object_of(events=_WHOLE, bytes=_WHOLE, dropped=_WHOLE), subscriptions=_WHOLE, channels=array_of(TEXT), guest=_FLAG,
)  # fmt: skip
PREFIX = query_text("prefix", "only agents whose ids begin so")
MOST_AGENTS = query_whole("limit", 200, 1, 10_000, "the most agents")
AGENTS = Spec("List the agents", object_of(agents=array_of(_AGENT), total=_WHOLE), query=(PREFIX, MOST_AGENTS))
AGENT = Spec(
    "See one agent, with its rights and subscriptions",
    merged(
        _AGENT, object_of(metadata=OBJECT, address=or_null(TEXT), patterns=array_of(TEXT), rights=OBJECT)
    ),
)  # fmt: skip
KICK = Spec("Unregister an agent, and keep its id away for `agents.kick_cooldown`", DONE)
CHANNELS = Spec(
    "List the channels with their members",
    object_of(
        channels=array_of(
            object_of(channel=TEXT, members=array_of(TEXT), private=_FLAG, created_by=or_null(TEXT))
        )
    ),
)  # fmt: skip
GROUPS = Spec(
    "List the groups of agents with their rights",
    object_of(groups=array_of(object_of(group=TEXT, agents=_WHOLE, configured=_FLAG))),
)
AUDIT_LIMIT = query_whole("limit", 100, 1, 1000, "the most records")
AUDIT_BEFORE = query_text("before", "only records before this one: the `next` of the page before")
AUDIT_WHAT = query_text("what", "only records with this name, or below it: `mod`, `token.create`")
AUDIT = Spec(
    "Read the audit, newest first",
    merged(object_of(records=array_of(OBJECT), next={"type": ["integer", "string", "null"]}), _OF_NODES),
    query=(AUDIT_LIMIT, AUDIT_BEFORE, AUDIT_WHAT, NODE),
)

# -- invites

_INVITE = object_of(
    invite_id=TEXT, agent_group=or_null(TEXT), agent=or_null(TEXT), uses=_WHOLE, expires_at=_NUMBER, created_at=_NUMBER,
    created_by=TEXT,
)  # fmt: skip
INVITES = Spec("List the invites that can still be used, oldest first", object_of(invites=array_of(_INVITE)))
INVITED_GROUP = key_text("group", "the group that the invited agents join")
INVITED = key_text("agent", "the id that it is for, or a pattern such as `bot-*`; without it, any that is not reserved")
INVITE_EXPIRES = key_number("expires", 86400.0, 0.001, MAX_LIFE, "seconds until it can no longer be used")
INVITE_USES = key_whole("uses", 1, 1, MAX_USES, "how many agents it registers")
INVITE = Spec(
    "Make an invite, whose code is in `data.invite`, this once",
    DONE,
    body=body_of(INVITED_GROUP, INVITED, INVITE_EXPIRES, INVITE_USES, may_be_missing=True),
)
REVOKE_INVITE = Spec("Take an invite back", DONE)

# -- the dashboard

LINK_SCOPE = key_text("scope", "what whoever opens the link may do: `read`, `operate` or `admin`, which is the default")
LINK_PAYLOADS = key_flag("payloads", "let it read what events carry; with `admin` it may in any case")
LINK = Spec(
    "Make a link that logs an operator in to the dashboard, once; it is in `data.url`",
    DONE,
    body=body_of(LINK_SCOPE, LINK_PAYLOADS, may_be_missing=True),
)
INTERVAL = query_number("interval", 1.0, *INTERVALS, "seconds between two lines")
SINCE = query_whole("since", None, 0, MAX_LIMIT * 1000, "the `seq` of the last line that was read, to go on from there")
LIVE = Spec(
    "Follow the whole network: one line with everything, then lines with what has changed",
    object_of(type={"enum": ["all", "change"]}, seq=_WHOLE, at=_NUMBER, network=OBJECT, mods=array_of(OBJECT)),
    query=(INTERVAL, SINCE),
    media_type=_NDJSON,
)
FORGET = Spec("Delete what is kept of an agent; `data` counts what that was", DONE)

# -- operators' tokens

_TOKEN = object_of(
    name=TEXT, scope=TEXT, payloads=_FLAG, created_at=_NUMBER, created_by=TEXT, expires_at=or_null(_NUMBER), expired=_FLAG
)  # fmt: skip
TOKENS = Spec("List the operators' tokens, without their secrets", object_of(tokens=array_of(_TOKEN)))
TOKEN_NAME = key_text("name", "what people call it", missing="missing; give the token a name")
TOKEN_SCOPE = key_text("scope", "`read`, `operate` or `admin`", missing="missing; give read, operate or admin")
TOKEN_PAYLOADS = key_flag(
    "payloads", "it may read what events carry (`read_payloads`); one with the scope `admin` may in any case"
)
TOKEN_EXPIRES = key_number("expires", 0.0, 0.0, MAX_LIFE, "seconds until it is of no use; 0: never")
TOKEN = Spec(
    "Make an operator's token, which is in `data.token`, this once",
    DONE,
    body=body_of(TOKEN_NAME, TOKEN_SCOPE, TOKEN_EXPIRES, TOKEN_PAYLOADS),
)
REVOKE_TOKEN = Spec("Revoke an operator's token", DONE)
