"""Tells whether an admin token can be guessed, where strangers may try."""

from __future__ import annotations

import re
from ipaddress import ip_address

MIN_LENGTH = 16  # of a random token of letters and digits: 95 bits
MIN_DIFFERENT = 8  # letters

_COMMON = re.compile(
    "password|passw0rd|passwort|secret|token|admin|root|change-?me|letmein|welcome|modvisor|network|example|sample|"
    "test|demo|dummy|default|qwerty|qwertz|asdf|abcdefgh|hello|world|master|monkey|dragon|your|the|here|please|"
    "0?123456789?0?|987654321|super|my",
    re.IGNORECASE,
)


def is_open(host: str) -> bool:
    """Tell whether other machines can reach an address that the network listens on."""
    if host.lower() == "localhost":
        return False
    try:
        return not ip_address(host.partition("%")[0].strip("[]")).is_loopback
    except ValueError:
        return True  # a name


def weakness(token: str) -> str | None:
    """Return why a token can be guessed; None if it cannot. The answer does not show the token."""
    if len(token) < MIN_LENGTH:
        return f"it has {len(token)} characters; at least {MIN_LENGTH} are needed"
    if len(set(token)) < MIN_DIFFERENT:
        return f"it has only {len(set(token))} different characters; at least {MIN_DIFFERENT} are needed"
    rest = _COMMON.sub("", token)
    if len(set(rest)) < MIN_DIFFERENT:
        return "it is made of words and numbers that everybody tries first"
    return None
