"""Makes one answer of what several nodes said. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ....ipc.errors import Code, ModvisorError


@dataclass(frozen=True, slots=True)
class Seen:
    """What one node said; ``error``: why it said nothing."""

    node: str
    data: Any = None
    error: str | None = None

    @property
    def answered(self) -> bool:
        return self.error is None


def named(seen: Iterable[Seen]) -> list[dict[str, Any]]:
    """Return which nodes were asked, and which did not answer."""
    return [{"node": each.node, "answered": each.answered, "error": each.error} for each in seen]


def mods(own: dict[str, dict[str, Any]], seen: list[Seen]) -> list[dict[str, Any]]:
    """Return the figures of each mod on each node that runs it, in load order.

    Args:
        own: the figures of all entries of this node, also of mods that it does not run. They stand
            for mods that no node runs.
        seen: by node, the figures of the mods that it runs.
    """
    found: dict[str, list[dict[str, Any]]] = {mod_id: [] for mod_id in own}
    for each in seen:
        for mod in (each.data or {}).values():
            found.setdefault(mod["mod_id"], []).append({**mod, "node": each.node})
    return [
        row for mod_id, rows in found.items() for row in (rows or [{**own[mod_id], "node": own[mod_id].get("node")}])
    ]


def by_key(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return rows by the id of the mod, and by id and node where several nodes run it."""
    listed = list(rows)
    many = repeated(row["mod_id"] for row in listed)
    return {key_of(row["mod_id"], row["node"], many): row for row in listed}


def key_of(mod_id: str, node: str | None, many: set[str]) -> str:
    """Return the key of a mod on a node in an answer of several nodes. It has a slash, which no mod id has."""
    return f"{mod_id}/{node}" if mod_id in many else mod_id


def repeated(names: Iterable[str]) -> set[str]:
    """Return the names that occur more than once."""
    once, again = set[str](), set[str]()
    for name in names:
        (again if name in once else once).add(name)
    return again


def stats(own: dict[str, Any], seen: list[Seen]) -> dict[str, Any]:
    """Return the figures of the whole network: those that are counted on each node added up."""
    answers = [(each, each.data) for each in seen if each.answered]
    rows = mods(own["mods"], [Seen(each.node, data["mods"]) for each, data in answers])
    return {
        **own,
        "events": added(data["events"] for _, data in answers),
        "spares": added(data["spares"] for _, data in answers),
        "mods": by_key(rows),
        "nodes": [{**head, **_of_node(each)} for head, each in zip(named(seen), seen, strict=True)],
    }


def _of_node(seen: Seen) -> dict[str, Any]:
    if not seen.answered:
        return {}
    kept = ("started_at", "uptime_seconds", "events", "supervisor", "journal", "spares")
    more = {name: seen.data[name] for name in ("version", "address") if name in seen.data}
    return {**{name: seen.data[name] for name in kept}, **more, "mods": sorted(seen.data["mods"])}


def added(counted: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add up figures by name, sections within them too; what is no number is as the first has it."""
    total: dict[str, Any] = {}
    for each in counted:
        for name, value in each.items():
            total[name] = _sum(total[name], value) if name in total else value
    return total


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return added((one, other))
    if _is_number(one) and _is_number(other):
        return one + other
    return other if one is None else one


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def crashes(seen: list[Seen]) -> list[dict[str, Any]]:
    """Return the crash reports of all nodes, oldest first."""
    found = [{**report, "node": each.node} for each in seen for report in each.data or ()]
    return sorted(found, key=lambda report: report["at"])


def numbers_of(before: str | None) -> dict[str, int]:
    """Return by node the record behind which a page of the audit goes on, as ``a:120,b:7`` has it."""
    if not before:
        return {}
    found = [each.rpartition(":") for each in before.split(",")]
    if any(not name or not (number.isascii() and number.isdecimal()) for name, _, number in found):
        text = f"before: expected what 'next' of the page before said, such as a:120,b:7, got {before[:60]!r}"
        raise ModvisorError(text, code=Code.BAD_INPUT)
    return {name: int(number) for name, _, number in found}


def audit(seen: list[Seen], limit: int, last: dict[str, int]) -> dict[str, Any]:
    """Return the newest records of all nodes, what goes on with older ones, and which nodes were asked.

    Args:
        seen: of each node its newest records, one more than the limit if there are so many.
        last: by node the number of the last record that was shown before.
    """
    told = [[{**record, "node": each.node} for record in each.data or ()] for each in seen]
    # Joined, not sorted: those of one node keep their order, even where its clock was set back.
    found = list(islice(heapq.merge(*told, key=lambda record: record["at"], reverse=True), limit + 1))
    page = found[:limit]
    last = {**last, **{record["node"]: record["n"] for record in page if "n" in record}}  # each node's oldest
    goes_on = ",".join(f"{name}:{number}" for name, number in sorted(last.items()))
    return {"records": page, "next": goes_on if len(found) > limit else None, "nodes": named(seen)}


def lines(seen: list[Seen], count: int) -> list[tuple[str, str]]:
    """Return the last lines of all nodes in the order of time; a line without a time stays with the one before."""
    keyed = [
        (time, place, each.node, line) for each in seen for place, (time, line) in enumerate(_timed(each.data or ()))
    ]
    keyed.sort(key=lambda each: each[0])  # stable: lines of one time and node keep their order
    return [(node, line) for _, _, node, line in keyed[-count:]] if count else []


def _timed(log: Iterable[str]) -> Iterator[tuple[str, str]]:
    time = ""
    for line in log:
        first = line.partition(" ")[0]
        time = first if first[:4].isdigit() and first.endswith("Z") else time
        yield time, line


def network_row(own: dict[str, Any], others: Iterable[dict[str, Any]], nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the network as one row: what is counted on each node added up, and the nodes."""
    rows = [own, *others]
    return {
        **own,
        "events": added(row["events"] for row in rows),
        "output_lost": sum(row["output_lost"] for row in rows),
        "nodes": nodes,
    }
