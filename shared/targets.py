"""Who can be suppressed: one address, or all addresses of a domain."""

import re
from dataclasses import dataclass

from shared.addresses import normalize
from shared.errors import TidingsError

_LONGEST_ADDRESS = 320
_LONGEST_DOMAIN = 255
_DOMAIN = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NO_LOCAL_PART = re.compile(r"[\s\x00-\x1f\x7f()<>\[\]:;@\\,\"\ud800-\udfff]")

_RARE = re.compile(
    r"""(?:"(?:[^"\\\x00-\x1f\x7f\ud800-\udfff]|\\[\x20-\x7e])+"|[^\s\x00-\x1f\x7f()<>\[\]:;@\\,"\ud800-\udfff]+)
    @(?:\[(?:\d{1,3}(?:\.\d{1,3}){3}|ipv6:[0-9a-f:.]+)\]|[^\[\]]+)""",
    re.VERBOSE,
)
"""A local part in quotation marks, or a host without a name (RFC 5321 4.1.2 and 4.1.3)."""


class TargetError(TidingsError):
    """What was given is neither an address nor a domain; the message says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Normalized. Either `address` or `domain` is set."""

    address: str | None = None
    domain: str | None = None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.address or f"@{self.domain}"


def read(text: str) -> Target:
    """The target that a person means: an address in any form, or a domain with the sign in front (`@example.com`).

    Raises TargetError.
    """
    normalized = normalize(text)
    local, at, domain = normalized.rpartition("@")
    if not at:
        raise TargetError(f"{_quoted(text)} has no @; a domain is written @example.com")
    if len(normalized) > _LONGEST_ADDRESS:
        raise TargetError(f"{_quoted(text)} is longer than an address may be")
    if len(domain) > _LONGEST_DOMAIN or not _DOMAIN.fullmatch(domain):
        raise TargetError(f"{_quoted(text)} has no domain behind the @")
    # Of what is broken a parser makes an address that nobody has written.
    written = f"{local}@" in text.lower() and (domain in text.lower() or not text.isascii())
    several = text.count("<") > 1 or ("<" not in text and text.count("@") > 1)
    if _NO_LOCAL_PART.search(local) or several or not written:
        raise TargetError(f"{_quoted(text)} is not one address")
    if not local:
        return Target(domain=domain)
    return Target(address=normalized)


def read_listed(text: str) -> Target:
    """The same of an entry of a list, which events may have put there: also addresses that nobody would give a person.

    Raises TargetError.
    """
    try:
        return read(text)
    except TargetError:
        address = text.strip().lower()
        match = _RARE.fullmatch(address)
        if not match or len(address) > _LONGEST_ADDRESS or normalize(address) != address:
            raise
        domain = address.rpartition("@")[2]
        if not domain.startswith("[") and not _DOMAIN.fullmatch(domain):
            raise
        return Target(address=address)


def named(text: str) -> Target:
    """Whom a question is about: anything that may be on the list, also what nobody would call an address."""
    normalized = normalize(text)
    return Target(domain=normalized[1:]) if normalized.startswith("@") else Target(address=normalized)


def read_domain(text: str) -> Target:
    """A domain, with or without the sign in front. Raises TargetError."""
    found = read(f"@{text.strip().removeprefix('@')}")
    if found.domain is None:
        raise TargetError(f"{_quoted(text)} is no domain")
    return found


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
