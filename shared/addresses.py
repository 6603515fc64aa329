"""Email addresses, written one way."""

import re
import unicodedata
from email.utils import parseaddr
from encodings.idna import nameprep

_LONGEST = 320
"""Characters of an address: 64 of local part, 255 of domain and the sign between them (RFC 5321 4.5.3.1)."""

_LONGEST_LABEL = 63

_DOTS = re.compile("[.\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH FULL STOP}\N{HALFWIDTH IDEOGRAPHIC FULL STOP}]")

_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_DEVIATIONS = re.compile(f"([ßς{_JOINERS}])")
"""What RFC 5892 lets stand, and its predecessor, which the codec follows, makes something else of: another domain."""

_DROP_JOINERS = str.maketrans("", "", _JOINERS)


def normalize(address: str) -> str:
    """The form under which an address is stored and looked up.

    Takes off display name, angle brackets, white space and the dot of the root behind a domain, lowers the case,
    and writes an international domain in its ASCII form (RFC 5890), mapped as RFC 3490 does, except for the few
    characters of which that would make another domain: `faß.de` is not `fass.de`. Plus tags and dots stay: what
    they mean is the mailbox's affair.
    What is no address (`debug@smtp`, `undisclosed`) is kept as it stands, lowered: it is still evidence.
    """
    text = address.strip()
    if "<" in text or " " in text:
        text = _bare(text) or text
    local, at, domain = text.rpartition("@")
    if at:
        domain = domain.rstrip(".") or domain
    lowered = f"{local}{at}{domain}".lower()
    if lowered.isascii() or len(lowered) > _LONGEST:
        return lowered
    try:
        return f"{local.lower()}{at}{'.'.join(map(_encode, _DOTS.split(domain)))}"
    except UnicodeError:
        return lowered


def _encode(label: str) -> str:
    """A label of a domain in ASCII. Raises UnicodeError if it cannot be one."""
    # One by one: at the end of a word the case of a whole text turns a capital sigma into another letter.
    label = "".join(map(str.lower, label))
    # Joiners among ASCII are what copying leaves behind.
    if label.translate(_DROP_JOINERS).isascii() or not _DEVIATIONS.search(label):
        if not label:
            raise UnicodeError
        return label.encode("idna").decode("ascii")
    parts = (part if _DEVIATIONS.fullmatch(part) else nameprep(part) for part in _DEVIATIONS.split(label))
    encoded = f"xn--{unicodedata.normalize('NFC', ''.join(parts)).encode('punycode').decode('ascii')}"
    if len(encoded) > _LONGEST_LABEL:
        raise UnicodeError
    return encoded


def _bare(text: str) -> str:
    if "<" in text:
        return text.rpartition("<")[2].partition(">")[0].strip()
    # The parser follows comments as deep as they are nested: a text too long for an address could exhaust it.
    found = parseaddr(text)[1] if len(text) <= _LONGEST else ""
    return found if "@" in found else ""


def strip_brackets(message_id: str) -> str:
    """A Message-Id without its angle brackets (RFC 5322 3.6.4): providers disagree on whether they belong."""
    return message_id.strip().removeprefix("<").removesuffix(">")
