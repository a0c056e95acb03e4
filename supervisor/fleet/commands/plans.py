"""What a command on a mod would do, in words, before somebody gives it. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable

from ....ipc.errors import Code, ModvisorError
from ...config import STOP_FIRST, Split, family_of
from ...lifecycle import State
from ..mods.workers import Mod
from ..read_models import Plan
from ..registry.registry import ModRegistry

_DOWN = (State.QUARANTINED, State.FAILED, State.STOPPED)


class Plans:
    """The plans for the mods of a network."""

    def __init__(self, mods: ModRegistry) -> None:
        self._mods = mods
        self._known: dict[str, Callable[[Mod], Plan]] = {
            "unload": self._unload,
            "reload": self._reload,
            "swap": self._swap,
            "restart": self._restart,
            "promote": self._promote,
            "rollback": self._rollback,
        }

    def of(self, mod: Mod, do: str) -> Plan:
        """Return what a command would do.

        Raises:
            ModvisorError: bad_input: there is no such command.
        """
        make = self._known.get(do)
        if make is None:
            raise ModvisorError(f"do: expected one of {', '.join(self._known)}, got {do[:40]!r}", code=Code.BAD_INPUT)
        return make(mod)

    def _unload(self, mod: Mod) -> Plan:
        limits, needed = mod.config.limits, self._mods.dependents.required_by(mod.mod_id)
        text = [
            f"{_named(mod)} takes no new events. {_in_flight(mod, limits.drain_timeout)}",
            f"{_processes(mod)} within {limits.unload_timeout:g} s. Its stored files and its log stay.",
        ]
        if any(len(keeper.durable) for keeper in mod.keepers):
            text.append("Its durable events without an answer are kept until it is loaded again.")
        if needed:
            text.append(f"It is needed by {_list(needed)}: unload {_them(needed)} first, or all of them together.")
        return Plan(" ".join(text), tuple(needed))

    def _reload(self, mod: Mod) -> Plan:
        return Plan(
            f"{self._replaced(mod, 'A new process starts with the files as they are on disk now')}{_probation(mod)}",
            self._near(mod),
        )

    def _swap(self, mod: Mod) -> Plan:
        text = self._replaced(mod, "A process of the other mod starts")
        text += " The other mod takes its place in the load order, and the events that wait."
        return Plan(f"{text}{_probation(mod)}", self._near(mod))

    def _restart(self, mod: Mod) -> Plan:
        if mod.state in _DOWN:
            text = f"{_named(mod)} is {mod.state}. A new process starts with the code that served last, and the count "
            return Plan(text + "of restarts begins anew.", self._near(mod))
        how = "A new process starts with the code that serves now, not with changed files"
        return Plan(self._replaced(mod, how), self._near(mod))

    def _replaced(self, mod: Mod, how: str) -> str:
        limits = mod.config.limits
        if mod.config.reload == STOP_FIRST:
            first = f"Its process ends first. {_in_flight(mod, limits.drain_timeout)} {how}."
        else:
            first = f"{how}, beside the one that serves. {_in_flight(mod, limits.drain_timeout)}"
        text = f"{_named(mod)} is replaced. {first} The state is handed over, and new events wait meanwhile."
        return f"{text} If it fails, the old one stays."

    def _promote(self, mod: Mod) -> Plan:
        siblings = tuple(each.mod_id for each in self._siblings(mod))
        text = f"{_named(mod)} gets the events of every source from the next event on (now: {self._reaches(mod)})."
        if siblings:
            text += f" {_list(siblings)} {_stays(siblings)} loaded without events, so that a rollback finds {_them(siblings)}."
        return Plan(text + " Nothing is restarted.", siblings)

    def _rollback(self, mod: Mod) -> Plan:
        family = family_of(mod.mod_id)
        promotions = self._mods.families.promotions(family)
        if not promotions:
            return Plan(f"No version of {family} was promoted, so there is nothing to go back to.", ())
        before = promotions[-1]
        shares = ", ".join(f"{version.mod_id}: {before.reaches(version.mod_id)}" for version in before.versions)
        affected = tuple(version.mod_id for version in before.versions)
        return Plan(
            f"The versions of {family} get their sources back as before the last promotion: {shares}.", affected
        )

    def _siblings(self, mod: Mod) -> list[Mod]:
        return [each for each in self._mods.families.members(family_of(mod.mod_id)) if each is not mod]

    def _reaches(self, mod: Mod) -> str:
        split: Split | None = self._mods.families.split_of(mod.mod_id)
        return "everyone" if split is None else split.reaches(mod.mod_id)

    def _near(self, mod: Mod) -> tuple[str, ...]:
        return tuple(self._mods.dependents.required_by(mod.mod_id))


def _named(mod: Mod) -> str:
    version = mod.manifest.version if mod.manifest is not None else None
    return f"mod {mod.mod_id}" if version is None else f"mod {mod.mod_id} ({version})"


def _processes(mod: Mod) -> str:
    count = len(mod.keepers)
    return "Its process ends" if count == 1 else f"Its {count} processes end"


def _in_flight(mod: Mod, seconds: float) -> str:
    flying = sum(keeper.caller.in_flight_count for keeper in mod.keepers)
    waiting = sum(keeper.caller.depth for keeper in mod.keepers)
    text = "No event is in flight." if not flying else f"{_events(flying)} in flight may finish, for {seconds:g} s."
    return f"{text} {_events(waiting)} waiting." if waiting else text


def _probation(mod: Mod) -> str:
    seconds = mod.config.probation
    if not seconds:
        return ""
    return f" If it crashes within {seconds:g} s after that, or fails more events, the version before comes back."


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"


def _list(names: tuple[str, ...] | list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _them(names: tuple[str, ...] | list[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _stays(names: tuple[str, ...] | list[str]) -> str:
    return "stays" if len(names) == 1 else "stay"
