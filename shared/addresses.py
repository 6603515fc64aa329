"""Email addresses in one normal form, so that the same recipient is found again."""

import re
from email.utils import parseaddr

import idna

_MAX_LENGTH = 320
"""Characters of an address: 64 of local part, 255 of domain and the @ between them (RFC 5321 4.5.3.1)."""

_MAX_LABEL_LENGTH = 63

_HOST = re.compile(r"[a-z0-9_.\-\u0080-\U0010ffff]+")
_DROP_JOINERS = str.maketrans("", "", "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")


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
