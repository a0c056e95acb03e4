"""What each attack gets under each profile, as root and as a plain user: the one table of tests and of docs/security.md.

A cell is ``open`` or ``stopped``. The tests make the attack and compare; `page` prints the
page from here.
"""

from __future__ import annotations

from dataclasses import dataclass

OPEN, STOPPED, UNSURE = "open", "stopped", "unsure"
"""UNSURE: what is asked for is refused, or is not there, on some hosts; nothing is promised."""

BARE, OFF, DEFAULT, STRICT = "bare", "off", "default", "strict"
PROFILES = (OFF, DEFAULT, STRICT)
ROOT, USER = USERS = ("root", "user")

_CODES = {"O": OPEN, "S": STOPPED, "?": UNSURE}


@dataclass(frozen=True)
class Row:
    """One attack.

    Attributes:
        what: what the attacker gets, for the page.
        cells: what comes of it, by profile and user. The first profile is `BARE`: a process of the same user that no network
            started, which shows that the attack works.
    """

    what: str
    cells: dict[tuple[str, str], str]


def _row(what: str, bare: str, off: str, default: str, strict: str) -> Row:
    """Return a row; the two letters of each cell are for root and for a user."""
    columns = zip((BARE, *PROFILES), (bare, off, default, strict), strict=True)
    return Row(
        what,
        {(profile, user): _CODES[code] for profile, codes in columns for user, code in zip(USERS, codes, strict=True)},
    )


SECTIONS: dict[str, dict[str, Row]] = {
    "The network": {
        "finds_open_files": _row("files that were open when the mod's process began", "??", "SS", "SS", "SS"),
        "finds_secrets_in_its_own_memory": _row("secrets left in the memory it was forked with", "SS", "SS", "SS", "SS"),
        "reads_the_network_file": _row("the network file, with its tokens and hashes of passwords", "OO", "OO", "SS", "SS"),
        "writes_the_network_file": _row("a change of the network file", "OO", "OO", "SS", "SS"),
        "replaces_the_network_file": _row("another network file in its place", "OO", "OO", "SS", "SS"),
        "moves_the_folder_above_the_networks": _row("another folder in place of that of the network", "OO", "OO", "OO", "SS"),
        "changes_the_code_of_the_network": _row("the code of modvisor and its libraries", "O?", "O?", "O?", "SS"),
        "reads_the_env_file": _row("the files of secrets that the network file names", "OO", "OO", "SS", "SS"),
        "reads_the_journal": _row("the journal: events, agents, hashes of their secrets", "OO", "OO", "SS", "SS"),
        "writes_the_journal": _row("a change of the journal", "OO", "OO", "SS", "SS"),
        "lists_the_state_folder": _row("the names of what is in the state folder", "OO", "OO", "SS", "SS"),
        "writes_into_the_state_folder": _row("files of its own in the state folder", "OO", "OO", "SS", "SS"),
        "reads_secret_files_that_were_replaced": _row("these files once they were replaced", "OO", "OO", "SS", "SS"),
        "uncovers_what_mounts_hide": _row("what mounts hide, below them", "OO", "OO", "SS", "SS"),
        "opens_files_by_handle": _row("files by their number in the file system, past all folders", "OS", "SS", "SS", "SS"),
        "reads_the_supervisors_variables": _row("environment variables of the supervisor", "OO", "SS", "SS", "SS"),
        "reads_the_supervisors_memory": _row("memory of the supervisor", "OO", "SS", "SS", "SS"),
        "writes_the_guardians_memory": _row("the process that all workers are forked from", "OO", "SS", "SS", "SS"),
        "takes_descriptors_of_others": _row("open files and sockets of the supervisor and of mods", "OO", "OS", "SS", "SS"),
        "signals_the_supervisor": _row("signals to the supervisor, SIGKILL too", "OO", "OO", "SS", "SS"),
        "signals_the_guardian": _row("signals to the process that starts workers", "OO", "OO", "SS", "SS"),
        "uses_its_warden": _row("what its warden has: the process above its own", "OO", "SS", "SS", "SS"),
        "asks_the_admin_socket": _row("the operator's API over its socket", "OO", "SS", "SS", "SS"),
        "speaks_in_the_name_of_others": _row("events in the name of others, by forged messages", "SS", "SS", "SS", "SS"),
        "commands_the_network": _row("commands to the network without a permission", "SS", "SS", "SS", "SS"),
    },
    "Other mods": {
        "reads_a_siblings_storage": _row("files of another mod's storage", "OO", "OO", "SS", "SS"),
        "writes_a_siblings_storage": _row("files of its own in another mod's storage", "OO", "OO", "SS", "SS"),
        "reads_a_siblings_log": _row("another mod's log", "OO", "OO", "SS", "SS"),
        "changes_what_a_sibling_is_restarted_from": _row("the code that another mod is restarted from", "OO", "OO", "SS", "SS"),
        "changes_the_code_of_a_sibling": _row("the code of another mod on disk", "OO", "OO", "SS", "SS"),
        "reads_a_siblings_memory": _row("memory of another mod", "OO", "OS", "SS", "SS"),
        "reads_a_siblings_shared_memory": _row("shared memory and message queues of another mod", "OO", "OO", "SS", "SS"),
        "reads_a_siblings_keys": _row("keys that another mod keeps in the kernel", "OS", "OS", "SS", "SS"),
        "signals_a_sibling": _row("signals to another mod", "OO", "OO", "SS", "SS"),
        "traces_processes": _row("another process under a debugger", "OO", "OS", "SS", "SS"),
        "watches_others_by_perf": _row("counters of what another process does", "OO", "OS", "SS", "SS"),
        "slows_others_down": _row("limits and priorities of other processes", "OO", "OO", "SS", "SS"),
        "enters_the_namespaces_of_others": _row("the namespaces of other processes", "O?", "SS", "SS", "SS"),
        "lists_the_programs_of_others": _row("the list of the host's processes and their arguments", "OO", "OO", "SS", "SS"),
        "passes_descriptors_to_a_sibling": _row("open files shared with a mod that wants them", "OO", "OO", "OO", "SS"),
        "uses_up_what_the_user_may_have": _row("all that a user may have, so that others get none", "OS", "SS", "SS", "SS"),
        "uses_up_watches_of_files": _row("all watches of files that a user may have", "SO", "SO", "SO", "SO"),
    },
    "The user and the host": {
        "reads_the_users_files": _row("other files that the user may read", "OO", "OO", "OO", "SS"),
        "writes_the_users_files": _row("changes of other files of the user", "OO", "OO", "OO", "SS"),
        "reads_the_systems_files": _row("the system's files that everybody may read", "OO", "OO", "OO", "SS"),
        "writes_into_the_common_temporary_folder": _row("files in /tmp that others see", "OO", "OO", "OO", "SS"),
        "runs_a_shell": _row("other programs", "OO", "OO", "OO", "SS"),
        "makes_a_setuid_file": _row("a program that gives the mod's rights to every user", "OO", "OO", "SS", "SS"),
        "opens_the_operators_terminal": _row("what the operator types, and what the terminal shows", "OO", "OO", "SS", "SS"),
        "types_into_the_operators_terminal": _row("commands typed into the operator's terminal", "?S", "SS", "SS", "SS"),
        "dumps_its_core": _row("its memory in a file", "OO", "SS", "SS", "SS"),
    },
    "Sockets": {
        "reaches_local_services": _row("services of this host over TCP", "OO", "OO", "OO", "SS"),
        "sends_datagrams_and_dns": _row("datagrams, DNS among them", "OO", "OO", "OO", "SS"),
        "reaches_other_services_sockets": _row("sockets of other services: ssh-agent, D-Bus", "OO", "OO", "OO", "SS"),
        "listens_to_the_wire": _row("raw sockets", "OS", "SS", "SS", "SS"),
        "opens_sockets_of_rare_kinds": _row("sockets of rare kinds: vsock, Bluetooth, ciphers", "OO", "OO", "OO", "SS"),
        "leaves_its_network": _row("a network of its own, with every right in it", "O?", "O?", "SS", "SS"),
    },
    "The kernel": {
        "makes_a_device_node": _row("device nodes", "OS", "SS", "SS", "SS"),
        "reads_a_raw_disk": _row("raw disks and memory", "?S", "?S", "SS", "SS"),
        "changes_kernel_settings": _row("settings by which the kernel runs a program as root", "OS", "OS", "SS", "SS"),
        "changes_control_groups": _row("its way out of its control group, or the group of others", "??", "??", "SS", "SS"),
        "mounts_a_file_system": _row("mounts", "OS", "SS", "SS", "SS"),
        "makes_new_namespaces": _row("new namespaces, with every right in them", "O?", "O?", "SS", "SS"),
        "changes_its_root": _row("another root folder", "OS", "SS", "SS", "SS"),
        "rules_the_machine": _row("the machine: its name, its modules, accounting", "OS", "SS", "SS", "SS"),
        "raises_its_limits": _row("more than its limits, or a priority over others", "OS", "SS", "SS", "SS"),
        "uses_io_uring": _row("calls by io_uring, which no filter of calls sees", "??", "??", "SS", "SS"),
        "loads_code_into_the_kernel": _row("code of its own in the kernel (bpf)", "?S", "SS", "SS", "SS"),
        "holds_up_the_kernel": _row("calls of the kernel held up at will (userfaultfd)", "??", "SS", "SS", "SS"),
    },
}  # fmt: skip

TABLE: dict[str, Row] = {name: row for rows in SECTIONS.values() for name, row in rows.items()}
"""All rows, in the order in which the attacks are made: what only looks comes first."""

PROCESSES, FILES, PRIVILEGES = "processes", "files", "privileges"

ALONE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "asks_the_admin_socket",
            "leaves_its_network",
            "makes_a_setuid_file",
            "makes_new_namespaces",
            "uses_io_uring",
            "finds_open_files",
            "finds_secrets_in_its_own_memory",
            "opens_files_by_handle",
            "reads_the_supervisors_variables",
            "reads_the_supervisors_memory",
            "writes_the_guardians_memory",
            "uses_its_warden",
            "speaks_in_the_name_of_others",
            "commands_the_network",
            "enters_the_namespaces_of_others",
            "uses_up_what_the_user_may_have",
            "types_into_the_operators_terminal",
            "dumps_its_core",
            "listens_to_the_wire",
            "makes_a_device_node",
            "mounts_a_file_system",
            "changes_its_root",
            "rules_the_machine",
            "raises_its_limits",
            "loads_code_into_the_kernel",
            "holds_up_the_kernel",
        ),
        (PROCESSES, FILES, PRIVILEGES),
    ),
    **dict.fromkeys(("reads_a_siblings_keys", "changes_control_groups"), (PROCESSES, FILES)),
    **dict.fromkeys(
        (
            "takes_descriptors_of_others",
            "signals_the_supervisor",
            "signals_the_guardian",
            "reads_a_siblings_memory",
            "reads_a_siblings_shared_memory",
            "signals_a_sibling",
            "traces_processes",
            "watches_others_by_perf",
            "slows_others_down",
            "lists_the_programs_of_others",
            "opens_the_operators_terminal",
        ),
        (PROCESSES,),
    ),
    **dict.fromkeys(
        (
            "reads_the_network_file",
            "writes_the_network_file",
            "replaces_the_network_file",
            "reads_the_env_file",
            "reads_the_journal",
            "writes_the_journal",
            "lists_the_state_folder",
            "writes_into_the_state_folder",
            "reads_secret_files_that_were_replaced",
            "uncovers_what_mounts_hide",
            "reads_a_siblings_storage",
            "writes_a_siblings_storage",
            "reads_a_siblings_log",
            "changes_what_a_sibling_is_restarted_from",
            "changes_the_code_of_a_sibling",
            "reads_a_raw_disk",
            "changes_kernel_settings",
        ),
        (FILES,),
    ),
}
"""The parts of `default` that stop an attack each alone. `privileges` are in force with each other part."""
