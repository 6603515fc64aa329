"""Normalized email addresses, and targets of suppressions: one address, or all addresses of a domain."""

import re
from dataclasses import dataclass
from email.utils import parseaddr

import idna

from shared.errors import TidingsError

_MAX_LENGTH = 320
"""Characters of an address: 64 of local part, 255 of domain and the @ between them (RFC 5321 4.5.3.1)."""

_MAX_LABEL_LENGTH = 63

_HOST = re.compile(r"[a-z0-9_.\-\u0080-\U0010ffff]+")
_DROP_JOINERS = str.maketrans("", "", "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")
_MAX_DOMAIN_LENGTH = 255
_DOMAIN = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NOT_IN_LOCAL_PART = re.compile(r"[\s\x00-\x1f\x7f()<>\[\]:;@\\,\"\ud800-\udfff]")
_UNUSUAL = re.compile(
    r"""(?:"(?:[^"\\\x00-\x1f\x7f\ud800-\udfff]|\\[\x20-\x7e])+"|[^\s\x00-\x1f\x7f()<>\[\]:;@\\,"\ud800-\udfff]+)
    @(?:\[(?:\d{1,3}(?:\.\d{1,3}){3}|ipv6:[0-9a-f:.]+)\]|[^\[\]]+)""",
    re.VERBOSE,
)
"""A quoted local part, or an address literal instead of a domain (RFC 5321 4.1.2 and 4.1.3)."""


def normalize(address: str) -> str:
    """Return the form under which an address is stored and looked up.

    Drops display name, angle brackets, white space and a final dot, lowers the case, and writes an
    internationalized domain in its ASCII form, mapped by UTS 46 without transitional processing: `faß.de` and
    `fass.de` are two domains. Plus tags and dots in the local part stay: only the mailbox knows what they mean.
    Text that is not an address (`debug@smtp`, `undisclosed`) is kept in lower case: it is still evidence. So is a
    domain that UTS 46 refuses.
    """
    text = address.strip()
    if "<" in text or " " in text:
        text = _extract(text) or text
    local, at, domain = text.rpartition("@")
    if at:
        domain = domain.rstrip(".") or domain
    lowered = f"{local}{at}{domain}".lower()
    if lowered.isascii() or len(lowered) > _MAX_LENGTH:
        return lowered
    try:
        return f"{local.lower()}{at}{_encode_domain(domain)}"
    except UnicodeError:
        return lowered


def _encode_domain(domain: str) -> str:
    """Return a domain in ASCII (UTS 46 4.2 ToASCII, without the checks of IDNA 2008, which refuse domains in use).

    Raises UnicodeError.
    """
    mapped = idna.uts46_remap(domain, std3_rules=False)
    if not _HOST.fullmatch(mapped):  # a mapping can yield any ASCII character, an @ too
        raise UnicodeError
    labels = []
    for label in mapped.split("."):
        encoded = label.translate(_DROP_JOINERS)  # joiners between ASCII letters are left over from copying
        if not encoded.isascii():
            encoded = f"xn--{label.encode('punycode').decode('ascii')}"
        if not 0 < len(encoded) <= _MAX_LABEL_LENGTH:
            raise UnicodeError
        labels.append(encoded)
    return ".".join(labels)


def _extract(text: str) -> str:
    """Return the address in a text with a display name or a comment; '' if there is none."""
    if "<" in text:
        return text.rpartition("<")[2].partition(">")[0].strip()
    # The parser recurses into nested comments: a text too long for an address could exhaust the stack.
    found = parseaddr(text)[1] if len(text) <= _MAX_LENGTH else ""
    return found if "@" in found else ""


def strip_brackets(message_id: str) -> str:
    """Return a Message-Id without its angle brackets (RFC 5322 3.6.4), which some providers leave out."""
    return message_id.strip().removeprefix("<").removesuffix(">")


class AddressError(TidingsError):
    """A text is neither an address nor a domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An address or a domain, normalized. Exactly one of the two is set."""

    address: str | None = None
    domain: str | None = None

    @property
    def name(self) -> str:
        """The address, or the domain as `@example.com`."""
        return self.address or f"@{self.domain}"


def parse_target(text: str) -> Target:
    """Return the target in what a person wrote: an address in any form, or a domain as `@example.com`.

    Raises TargetError.
    """
    normalized = normalize(text)
    local, at, domain = normalized.rpartition("@")
    if not at:
        raise AddressError(f"{_quote(text)} has no @; a domain is written @example.com")
    if len(normalized) > _MAX_LENGTH:
        raise AddressError(f"{_quote(text)} is longer than {_MAX_LENGTH} characters")
    if len(domain) > _MAX_DOMAIN_LENGTH or not _DOMAIN.fullmatch(domain):
        raise AddressError(f"{_quote(text)} has no valid domain after the @")
    # The parser repairs broken text to an address that nobody has written.
    written = f"{local}@" in text.lower() and (domain in text.lower() or not text.isascii())
    several = text.count("<") > 1 or ("<" not in text and text.count("@") > 1)
    if _NOT_IN_LOCAL_PART.search(local) or several or not written:
        raise AddressError(f"{_quote(text)} is not one address")
    if not local:
        return Target(domain=domain)
    return Target(address=normalized)


def parse_listed_target(text: str) -> Target:
    """Return the target in an entry of a suppression list.

    Events may have added the entry, so quoted local parts and address literals are accepted too. Raises TargetError.
    """
    try:
        return parse_target(text)
    except AddressError:
        address = text.strip().lower()
        match = _UNUSUAL.fullmatch(address)
        if not match or len(address) > _MAX_LENGTH or normalize(address) != address:
            raise
        domain = address.rpartition("@")[2]
        if not domain.startswith("[") and not _DOMAIN.fullmatch(domain):
            raise
        return Target(address=address)


def parse_lookup(text: str) -> Target:
    """Return the target of a look-up: any text, because the list may contain what is not a valid address."""
    normalized = normalize(text)
    return Target(domain=normalized[1:]) if normalized.startswith("@") else Target(address=normalized)


def parse_domain(text: str) -> Target:
    """Return a domain, with or without the @ in front. Raises TargetError."""
    found = parse_target(f"@{text.strip().removeprefix('@')}")
    if found.domain is None:
        raise AddressError(f"{_quote(text)} is not a domain")
    return found


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
