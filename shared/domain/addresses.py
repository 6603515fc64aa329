"""Email addresses, written one way."""

from email.utils import parseaddr

_LONGEST = 320
"""Characters of an address: 64 of local part, 255 of domain and the sign between them (RFC 5321 4.5.3.1)."""


def normalize(address: str) -> str:
    """The form under which an address is stored and looked up.

    Takes off display name, angle brackets and white space, lowers the case, and writes an international
    domain in its ASCII form (RFC 5890). Plus tags and dots stay: what they mean is the mailbox's affair.
    What is no address (`debug@smtp`, `undisclosed`) is kept as it stands, lowered: it is still evidence.
    """
    text = address.strip()
    if "<" in text or " " in text:
        text = _bare(text) or text
    text = text.lower()
    if text.isascii() or len(text) > _LONGEST:
        return text
    local, at, domain = text.rpartition("@")
    try:
        return f"{local}{at}{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return text


def _bare(text: str) -> str:
    if "<" in text:
        return text.rpartition("<")[2].partition(">")[0].strip()
    # The parser follows comments as deep as they are nested: a text too long for an address could exhaust it.
    found = parseaddr(text)[1] if len(text) <= _LONGEST else ""
    return found if "@" in found else ""


def strip_brackets(message_id: str) -> str:
    """A Message-Id without its angle brackets (RFC 5322 3.6.4): providers disagree on whether they belong."""
    return message_id.strip().removeprefix("<").removesuffix(">")
