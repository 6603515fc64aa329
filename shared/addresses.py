"""Normalized email addresses, and targets of suppressions: one address, or all addresses of a domain."""

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote

import idna

from shared.errors import TidingsError

MAX_LENGTH = 320
"""Octets of an address: 64 of local part, 255 of domain and the @ between them (RFC 5321 4.5.3.1)."""
_MAX_WRITTEN_LENGTH = 2048
"""Characters of an address with its display name and comments. Composing a longer text could take long."""

_MAX_LAYERS = 8
"""What may be written around an address, one inside the other: brackets, prefixes, quotes."""

_MAX_LABEL_LENGTH = 63

_is_plain = re.compile(r"[a-z0-9!#$%&*+/=?^_`{|}~.-]+@[a-z0-9_.-]*[a-z0-9_-]").fullmatch
"""Nearly every address, in lower case: nothing has to be undone."""
_INVISIBLE_RANGES = (
    *((0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
"""Characters that are shown as nothing (Default_Ignorable_Code_Point of Unicode 16)."""
_INVISIBLE = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in _INVISIBLE_RANGES)}]")
_INVISIBLE_IN_DOMAIN = re.compile(rf"(?![\u200c\u200d]){_INVISIBLE.pattern}")
"""Joiners belong to the spelling of some languages, and domains may contain them."""
_AT_THE_ENDS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "".join(
    chr(code) for first, last in _INVISIBLE_RANGES for code in range(first, last + 1)
)
_WRITTEN_BEFORE = re.compile(r"(?P<url>mailto:)|(?:smtp:|rfc822;|@[^\s:<>]+:)\s*", re.IGNORECASE)
"""A URL (RFC 6068), address types (Exchange, RFC 3464 2.3.2), and a source route (RFC 5321 4.1.1.3)."""
_COMMENT = re.compile(r"\([^()]*\)")
_QUOTED = re.compile(r"""(?P<local>"(?:[^"\\\x00-\x1f\x7f\ud800-\udfff]|\\[\x20-\x7e])+")@[^\s@<>"(),;]+""")
_HOST = re.compile(r"[a-z0-9_.\-\u0080-\U0010ffff]+")
_DROP_JOINERS = str.maketrans("", "", "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")
_MAX_DOMAIN_LENGTH = 255
_DOMAIN = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_ADDRESS_LITERAL = re.compile(r"\[(?:\d{1,3}(?:\.\d{1,3}){3}|ipv6:[0-9a-f:.]+)\]")
"""An IP address instead of a domain (RFC 5321 4.1.3)."""
_NOT_IN_LOCAL_PART = re.compile(r"[\s\x00-\x1f\x7f()<>\[\]:;@\\,\"\ud800-\udfff]")


def normalize(address: str) -> str:
    """Return the form under which an address is stored and looked up.

    Drops display name, angle brackets, comments, `mailto:`, white space, characters that are shown as nothing, and a
    final dot. Lowers the case, composes letters (NFC), undoes quotes that are not needed (`"anna"@example.com`), and
    writes an internationalized domain in its ASCII form, mapped by UTS 46 without transitional processing: `faß.de`
    and `fass.de` are two domains. Plus tags and dots in the local part stay: only the mailbox knows what they mean.
    Text that is not an address (`debug@smtp`, `undisclosed`) is kept in lower case: it is still evidence. So is a
    domain that UTS 46 refuses.
    """
    lowered = address.lower()
    if _is_plain(lowered):
        return lowered
    text = _find_written(address)
    local, at, domain = text.rpartition("@")
    if not text.isascii():
        local = drop_invisible(local)
        domain = _INVISIBLE_IN_DOMAIN.sub("", domain) if at else drop_invisible(domain)
    if _QUOTED.fullmatch(f"{local}{at}{domain}"):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
        if _NOT_IN_LOCAL_PART.search(local):  # the quotes are needed
            local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    if at:
        local, domain = local.strip(), domain.strip().rstrip(". ") or domain
    lowered = _lower(f"{local}{at}{domain}")
    if domain.isascii() or len(lowered) > MAX_LENGTH:
        return lowered
    try:
        return f"{_lower(local)}{at}{_encode_domain(domain)}"
    except UnicodeError:
        return lowered


def drop_invisible(text: str) -> str:
    """Return the text without characters that are shown as nothing."""
    return _INVISIBLE.sub("", text)


def _find_written(text: str) -> str:
    """Return the address in a text without the name and punctuation around it; the text if it has no address."""
    whole = text = _trim(text)
    for _ in range(_MAX_LAYERS if len(text) <= _MAX_WRITTEN_LENGTH else 0):
        before = text
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        if not _QUOTED.fullmatch(text) and "<" in text:
            text = _trim(text.rpartition("<")[2].partition(">")[0]) or text
        if prefix := _WRITTEN_BEFORE.match(text):
            text = text[prefix.end() :]
            if prefix["url"]:
                text = unquote(text.partition("?")[0]).replace("\0", "\N{REPLACEMENT CHARACTER}")  # cannot be stored
        if text[:1] == text[-1:] == "'":  # as Outlook quotes addresses
            text = text.strip("'") or text
        if "(" in text and len(text) <= MAX_LENGTH and not _QUOTED.fullmatch(text):
            text = _COMMENT.sub("", text)
        text = _trim(text)
        if text == before:
            return text
    return whole


def _trim(text: str) -> str:
    return text.strip() if text.isascii() else text.strip(_AT_THE_ENDS)


def _lower(text: str) -> str:
    lowered = text.lower()
    return lowered if len(text) > _MAX_WRITTEN_LENGTH else unicodedata.normalize("NFC", lowered)


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

    Whatever RFC 5321 allows is an address, with a quoted local part or an address literal too. Raises AddressError.
    """
    normalized = normalize(text)
    local, at, domain = normalized.rpartition("@")
    if not at:
        raise AddressError(f"{_quote(text)} has no @; a domain is written @example.com")
    if len(normalized) > MAX_LENGTH:
        raise AddressError(f"{_quote(text)} is longer than {MAX_LENGTH} characters")
    written = _find_written(text)
    if _INVISIBLE.search(written.translate(_DROP_JOINERS) if local.isascii() else written):
        raise AddressError(f"{_quote(text)} contains invisible characters")
    is_literal = bool(local) and _ADDRESS_LITERAL.fullmatch(domain)
    if not is_literal and (len(domain) > _MAX_DOMAIN_LENGTH or not _DOMAIN.fullmatch(domain)):
        raise AddressError(f"{_quote(text)} has no valid domain after the @")
    is_quoted = _QUOTED.fullmatch(normalized)
    several = text.count("<") > 1 and not _QUOTED.fullmatch(written)
    if several or (_NOT_IN_LOCAL_PART.search(local) and not is_quoted):
        raise AddressError(f"{_quote(text)} is not one address")
    return Target(address=normalized) if local else Target(domain=domain)


def parse_address(text: str) -> str:
    """Return the normalized address in what a person wrote. Raises AddressError, for a domain too."""
    if "@" not in text:
        raise AddressError(f"{_quote(text)} is not an address: it has no @ and no domain")
    address = parse_target(text).address
    if address is None:
        raise AddressError(f"{_quote(text)} is a domain, and must be one address")
    return address


def parse_lookup(text: str) -> Target:
    """Return the target of a look-up: any text, because the list may contain what is not a valid address."""
    normalized = normalize(text)
    return Target(domain=normalized[1:]) if normalized.startswith("@") else Target(address=normalized)


def parse_domain(text: str) -> Target:
    """Return a domain, with or without the @ in front. Raises AddressError."""
    found = parse_target(f"@{text.strip().removeprefix('@')}")
    if found.domain is None:
        raise AddressError(f"{_quote(text)} is not a domain")
    return found


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
