"""Who may become an agent, under which id and in which group: passwords, invites, reserved ids.

No way leads to more rights than the caller proved. A password, an invite, or a manager of agents
vouches for an agent; an agent for which nothing vouches is a guest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ...ipc.errors import Code
from ..config import CLOSED, GROUP_PASSWORD, INVITE, OPEN, AgentsConfig, GroupConfig, is_agent_pattern
from .agent import Agent
from .delivery import Commit, Inboxes
from .rights.guesses import Guesses
from .rights.hashes import hash_of, is_hash_of
from .rights.invites import MAX_LIFE, MAX_USES, Invite, Invites, is_reserved, new_code
from .rights.passwords import Passwords, is_argon2id, is_same
from .rights.refusal import Refusal
from .rights.rights import Rights

_INVITES = ":invites"  # as the group for which wrong codes are counted; no group is called so


class Manager(NamedTuple):
    """Who manages agents from outside: it can give nothing that it does not have.

    Nor can it do anything to an agent whose rights it lacks.

    Attributes:
        rights: of an agent; None: a mod, which may send and receive everything, and registers no
            reserved id.
    """

    permissions: frozenset[str]
    rights: Rights | None = None

    def lacks(self, rights: Rights) -> list[str]:
        """Return in words what these rights give, and the manager does not have."""
        if self.rights is not None:
            return rights.beyond(self.rights)
        return [*sorted(rights.permissions - self.permissions), *rights.registers_beyond(())]


class Claim(NamedTuple):
    """What a request to register asks for, and what it proves; see `AgentRegistry.register`."""

    agent_id: str
    secret: str | None = None
    group: str | None = None
    password_hash: str | None = None
    trusted: bool = False
    manager: Manager | None = None
    address: str | None = None
    invite: str | None = None
    proved: frozenset[str] = frozenset()


class Admission(NamedTuple):
    """What a claim leads to.

    Attributes:
        invite: the invite that it uses up, if it uses one.
        is_guest: whether nothing vouches for the agent.
        is_again: whether the same invite has registered this agent before from the same address, and
            it has not been seen since: the first answer was lost.
    """

    group: str | None
    is_guest: bool
    invite: Invite | None = None
    is_again: bool = False


class Joining(Inboxes):
    """The registered agents, and the rules by which others join them. Arguments are as in `Channels`."""

    def __init__(
        self,
        config: AgentsConfig,
        groups: dict[str, GroupConfig],
        on_change: Callable[[str, dict[str, Any]], None],
        now: Callable[[], float] = time.monotonic,
        commit: Commit | None = None,
    ) -> None:
        super().__init__(config, groups, on_change, now, commit)
        self._guesses = Guesses(lambda: self._config, now)
        self._passwords = Passwords(lambda: self._config)
        self._invites = Invites()

    # -- passwords

    async def prove(
        self, agent_id: str, group: str | None, password_hash: str | None, address: str | None
    ) -> frozenset[str]:
        """Check a password against those that are stored as argon2id, off the loop.

        Returns:
            those that it is, for `register`. Nothing may be awaited before that, so that a wrong
            password is counted before the next one of its address is checked.

        Raises:
            Refusal: too_many or overloaded.
        """
        asked = self._asked(group)
        present = self._agents.get(agent_id)
        mine = self._group_of(present) if present is not None else None
        stored = {each.password_hash for each in (*asked, mine) if each is not None}
        slow = [each for each in stored if each is not None and is_argon2id(each)]
        if not password_hash or not slow:
            return frozenset()
        names = [each.name for each in asked]
        self._check_wait(address, names)
        async with self._passwords.turn(address):
            self._check_wait(address, names)
            return await self._passwords.which(slow, password_hash)

    def _asked(self, name: str | None) -> list[GroupConfig]:
        """Return the groups whose password a caller may give that names this group, or none."""
        if name:
            return [self._groups[name]] if name in self._groups else []
        return [group for group in self._groups.values() if group.password_hash]

    def _check_wait(self, address: str | None, names: list[str], what: str = "passwords") -> None:
        """Raise `Refusal` (too_many) if the address has given too much that was wrong for these groups."""
        if address is not None and (wait := self._guesses.wait(address, names)) > 0:
            raise Refusal(
                f"too many wrong {what} from {address}; try again in {math.ceil(wait)} s",
                code=Code.TOO_MANY,
                retry_after=math.ceil(wait),
            )

    def _with_password(self, groups: list[GroupConfig], claim: Claim) -> GroupConfig | None:
        """Return the group whose password was given, or None. This counts wrong passwords.

        Raises:
            Refusal: too_many: the address has given too many wrong passwords for these groups.
        """
        names = [group.name for group in groups] if claim.password_hash else []
        self._check_wait(claim.address, names)
        found = next((group for group in groups if _is_right(group, claim)), None)
        if found is None and claim.address is not None:
            self._guesses.wrong(claim.address, names)
        return found

    @property
    def _has_passwords(self) -> bool:
        """Whether agents may come that somebody vouches for, for which room is kept."""
        return len(self._invites) > 0 or any(group.password_hash for group in self._groups.values())

    # -- invites

    @property
    def invites(self) -> list[Invite]:
        """The invites that can still be used, the oldest first."""
        now = time.time()
        return sorted((each for each in self._invites if each.expires_at > now), key=lambda each: each.created_at)

    def invite(
        self,
        *,
        group: str | None = None,
        agents: str | None = None,
        uses: int = 1,
        expires: float = 86400.0,
        by: str = "operator",
        manager: Manager | None = None,
    ) -> tuple[Invite, str]:
        """Make an invite.

        Args:
            group: the group of the agents that it registers; None: they choose as anybody.
            agents: the id that it is for, or a pattern of ids; None: any id that is not reserved.
            uses: how many agents it registers.
            expires: seconds until it can no longer be used.
            by: who makes it.
            manager: what the maker may do; None: everything.

        Returns:
            the invite and its code.

        Raises:
            Refusal: bad_input, no_such_group, forbidden, conflict or overloaded.
        """
        self._forget_expired()
        self._check_invite(group, agents, manager)
        if type(uses) is not int or not 1 <= uses <= MAX_USES:
            raise Refusal(f"uses: expected a whole number from 1 to {MAX_USES}, got {uses!r}")
        if type(expires) not in (int, float) or not 0 < expires <= MAX_LIFE:
            raise Refusal(
                f"expires: expected more than 0 seconds, and at most {MAX_LIFE:.0f} (a year), got {expires!r}"
            )
        if len(self._invites) >= self._config.max_invites:
            text = f"there are {len(self._invites)} invites, which is the most ('agents.max_invites'); revoke one first"
            raise Refusal(text, code=Code.OVERLOADED)
        now, (invite_id, code) = time.time(), new_code()
        made = Invite(invite_id, hash_of(code), group, agents, uses, now + expires, now, by)
        self._invites.put(made)
        self._on_change("invite", {**made.to_dict(), "secret_hash": made.secret_hash})
        self._can_undo(lambda: self._invites.revoke(invite_id))
        return made, code

    def _check_invite(self, group: str | None, agents: str | None, manager: Manager | None) -> None:
        if self._config.registration == CLOSED:
            text = (
                "this network takes no new agents from outside ('agents.registration: closed'), so nobody could use it"
            )
            raise Refusal(text, code=Code.CONFLICT)
        if group is not None and group not in self._groups:
            raise _no_such_group(group)
        if agents is not None and not is_agent_pattern(agents):
            raise Refusal(f"agent: expected the id of an agent, or a pattern such as 'bot-*', got {agents!r}")
        if manager is None:
            return
        if more := manager.lacks(self._rules.of(group)):
            raise Refusal(
                f"{self._rules.of(group).whose} may do more than you ({', '.join(more)})", code=Code.FORBIDDEN
            )
        if agents is not None and not self._may_give_away(agents, manager):
            text = f"the network reserves ids ('agents.reserved'), and you may not give {agents!r} away"
            raise Refusal(text, code=Code.FORBIDDEN)

    def _may_give_away(self, agents: str, manager: Manager) -> bool:
        """Return whether a manager may invite somebody under these ids, of which some may be reserved."""
        reserved, mine = self._config.reserved, manager.rights.may_register if manager.rights is not None else ()
        if "*" in agents:  # which ids it reaches is not known
            return set(reserved).issubset(mine)
        return not is_reserved(agents, reserved) or is_reserved(agents, mine)

    def revoke_invite(self, invite_id: str, manager: Manager | None = None) -> Invite:
        """Take an invite back. Raises `Refusal` (not_found or forbidden)."""
        invite = self._invites.get(invite_id)
        if invite is None:
            raise Refusal(f"no invite {invite_id!r}; it was used up, or has expired", code=Code.NOT_FOUND)
        if manager is not None and (more := manager.lacks(self._rules.of(invite.group))):
            raise Refusal(f"invite {invite_id} gives more than you have ({', '.join(more)})", code=Code.FORBIDDEN)
        self._forget_invite(invite)
        return invite

    def _forget_expired(self) -> None:
        now = time.time()
        for invite in self._invites:
            if invite.expires_at <= now:
                self._forget_invite(invite)

    def _forget_invite(self, invite: Invite) -> None:
        self._invites.revoke(invite.invite_id)
        self._on_change("revoke_invite", {"invite_id": invite.invite_id})
        self._can_undo(lambda: self._invites.put(invite))

    def _spend(self, invite: Invite) -> None:
        """Use an invite up once, together with the registration."""
        left = self._invites.spend(invite)
        self._on_change("spend_invite" if left else "revoke_invite", {"invite_id": invite.invite_id})
        self._can_undo(lambda: self._invites.give_back(invite))

    def _invited(self, claim: Claim) -> Invite | None:
        """Return the invite that a claim brings. Raises `Refusal` if it is no good."""
        if not claim.invite:
            return None
        self._check_wait(claim.address, [_INVITES], "invites")
        invite = self._invites.with_code(claim.invite, time.time())
        if invite is None:
            if claim.address is not None:
                self._guesses.wrong(claim.address, [_INVITES])
            text = "this invite does not exist, was used up or revoked, or has expired; ask for a new one"
            raise Refusal(text, code=Code.UNAUTHENTICATED)
        if not invite.is_for(claim.agent_id):
            text = f"this invite is for agent {invite.agents!r}, not for {claim.agent_id!r}; register under that id"
            raise Refusal(text, code=Code.FORBIDDEN)
        if invite.group is not None and claim.group not in (None, "", invite.group):
            text = f"this invite is for agent_group {invite.group!r}, not for {claim.group!r}; leave 'agent_group' out"
            raise Refusal(text, code=Code.FORBIDDEN)
        return invite

    # -- the decision

    def _admit(self, claim: Claim, present: Agent | None) -> Admission:
        """Decide about a claim. This changes nothing but the count of wrong passwords.

        Raises:
            Refusal: id_taken, unauthenticated, forbidden, too_many, no_such_group or overloaded.
        """
        if present is not None and _was_invited_just_now(present, claim):
            return Admission(present.group, present.is_guest, is_again=True)
        invite = self._invited(claim)
        assigned = self._assign_group(claim, invite)
        gave_password = self._gave_password(claim, assigned)
        is_vouched = claim.trusted or claim.manager is not None or invite is not None or gave_password
        if present is None and not claim.trusted:
            self._check_new(claim, invite, gave_password)
            self._check_reserved(claim, invite, assigned if gave_password else None)
        return Admission(assigned, not is_vouched, invite)

    def _assign_group(self, claim: Claim, invite: Invite | None) -> str | None:
        """Return the group of the invite, that is asked for by name or by password, or the default group."""
        name = claim.group or (invite.group if invite is not None else None)
        if name:
            group = self._groups.get(name)
            if group is None:
                raise _no_such_group(name)
            if not claim.trusted and (invite is None or invite.group is None):
                self._check_may_join(group, claim)
            return name
        if claim.password_hash:
            found = self._with_password(self._asked(None), claim)
            if found is None:
                raise Refusal("no agent group has this password", code=Code.UNAUTHENTICATED)
            return found.name
        return self._config.default_group

    def _gave_password(self, claim: Claim, assigned: str | None) -> bool:
        """Return whether the caller was assigned this group for its password."""
        group = self._groups.get(assigned) if assigned is not None else None
        return group is not None and _is_right(group, claim)

    def _check_new(self, claim: Claim, invite: Invite | None, gave_password: bool) -> None:
        """Raise `Refusal` unless a new id may be registered in this way."""
        mode = self._config.registration
        if claim.manager is not None:
            if claim.group is None and mode != OPEN:  # what anybody can have needs no rank
                self._check_rank(self._rules.of(self._config.default_group), claim.manager, "register it in a group")
        elif mode == CLOSED:
            text = "this network takes no new agents from outside ('agents.registration: closed'); ask its operator"
            raise Refusal(text, code=Code.FORBIDDEN)
        elif mode == INVITE and invite is None:
            text = "this network takes only agents with an invite; ask its operator for one, and register with it as 'invite'"
            raise Refusal(text, code=Code.UNAUTHENTICATED)
        elif mode == GROUP_PASSWORD and invite is None and not gave_password:
            text = (
                "this network takes only agents that give the password of a group; register with its 'password_hash', or "
                "with an 'invite'"
            )
            raise Refusal(text, code=Code.UNAUTHENTICATED)

    def _check_reserved(self, claim: Claim, invite: Invite | None, joined: str | None) -> None:
        """Raise `Refusal` if the id is reserved, and the caller is not one of those who may have it.

        Args:
            joined: the group whose password was given.
        """
        if not is_reserved(claim.agent_id, self._config.reserved):
            return
        if invite is not None and invite.agents is not None:
            return
        rights = self._rules.of(joined) if joined is not None else claim.manager and claim.manager.rights
        if rights is None or not is_reserved(claim.agent_id, rights.may_register):
            raise Refusal(
                f"agent id {claim.agent_id!r} is reserved; choose another one, or ask the operator for an invite for it",
                code=Code.FORBIDDEN,
            )

    def _check_may_join(self, group: GroupConfig, claim: Claim) -> None:
        if claim.manager is not None and not claim.password_hash:
            self._check_rank(self._rules.of(group.name), claim.manager, "give its password")
        elif group.password_hash is None:
            if group.permissions:  # otherwise any agent could join and have them
                raise Refusal(
                    f"agent_group {group.name!r} has permissions but no password; join it with an invite for it",
                    code=Code.FORBIDDEN,
                )
        elif self._with_password([group], claim) is None:
            raise Refusal(f"wrong password for agent_group {group.name!r}", code=Code.UNAUTHENTICATED)

    def _check_rank(self, rights: Rights, manager: Manager, instead: str) -> None:
        if more := manager.lacks(rights):
            raise Refusal(f"{rights.whose} may do more than you ({', '.join(more)}); {instead}", code=Code.FORBIDDEN)

    def _group_of(self, agent: Agent) -> GroupConfig | None:
        return self._groups.get(agent.group) if agent.group is not None else None


def _is_right(group: GroupConfig, claim: Claim) -> bool:
    """Return whether the claim has the password of this group."""
    if is_argon2id(group.password_hash):
        return bool(claim.password_hash) and group.password_hash in claim.proved
    return is_same(group.password_hash, claim.password_hash)


def _was_invited_just_now(agent: Agent, claim: Claim) -> bool:
    """Return whether the invite of this claim registered the agent, and it was not seen since."""
    if agent.redeemed is None or not claim.invite:
        return False
    hashed, seen, address = agent.redeemed
    return agent.last_seen == seen and address == claim.address and is_hash_of(hashed, claim.invite)


def _no_such_group(name: str) -> Refusal:
    return Refusal(f"agent_group {name!r} is not configured", code=Code.NO_SUCH_GROUP)
