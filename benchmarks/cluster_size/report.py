"""The figures as text."""

from __future__ import annotations

from .checking import Checked
from .model import Constants, Size, bounds, predicted


def report(size: Size, constants: Constants) -> str:
    """Return the figures as text."""
    found = predicted(size, constants)
    lines = ["measured, for one entry:"]
    for kind, entry in constants.entries.items():
        lines.append(
            f"  {kind:<8} written {entry.written:5.0f} B, told to a node {entry.watched:5.0f} B and {entry.cpu_us:4.0f} µs, "
            f"mirrored {entry.memory:5.0f} B"
        )
    lines += [
        f"  writes {constants.writes:,.0f}/s on the disk; a new node is told {constants.caught_up:,.0f} entries/s; the "
        f"server takes {constants.server_us:.0f} µs for each message to a node",
        "",
        f"{size.nodes:,} nodes, {size.mods:,} mods, {size.agents:,} agents in {size.channels} channels each:",
        f"  each node    {found.node_memory / 1e6:,.0f} MB of mirrors; {found.node_changes:,.0f} changes/s, "
        f"{found.node_bytes / 1e3:,.0f} kB/s, {found.node_cpu:.1%} of a core",
        f"  the servers  {found.writes:,.0f} writes/s ({found.writes_share:.0%} of what one disk takes); "
        f"{found.server_messages:,.0f} messages/s, {found.server_bytes / 1e6:,.1f} MB/s to nodes, "
        f"{found.server_cpu:.1f} cores; {found.watchers:,} watches",
        f"  a new node   reads {found.join_bytes / 1e6:,.0f} MB in {found.join_seconds:,.1f} s; all at once "
        f"{found.all_join_bytes / 1e9:,.1f} GB",
        f"  a lost node  {found.takeover_writes:,.0f} writes, {found.takeover_seconds:.2f} s, until its mods are claimed",
        "",
        "what breaks first (part of it that is used):",
        *(f"  {bound.used:6.1%}  {bound.what}\n          then: {bound.then}" for bound in bounds(size, constants)),
    ]
    return "\n".join(lines)


def checked_text(found: Checked) -> str:
    pairs = (
        ("bytes until all nodes knew everything", found.counted_join, found.predicted_join),
        ("bytes of a second of changes", found.counted_bytes, found.predicted_bytes),
        ("messages of a second of changes", found.counted_messages, found.predicted_messages),
    )
    size = found.size
    head = f"{size.nodes} nodes, {size.mods} mods, {size.agents} agents: counted by the server beside the model"
    lines = (
        f"  {what:<40} {counted:12,.0f} {model:12,.0f}  {counted / model - 1:+.0%}" for what, counted, model in pairs
    )
    return "\n".join((head, *lines))
