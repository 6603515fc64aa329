"""What a URL must be before it is stored or called."""

import re
from urllib.parse import urlsplit

_PRINTABLE = re.compile(r"[!-~]*")


def is_printable(url: str) -> bool:
    """Return whether a URL is printable ASCII without spaces. Anything else could not be sent as it is written."""
    return _PRINTABLE.fullmatch(url) is not None


def is_http_url(url: str) -> bool:
    """Return whether this is an absolute URL of HTTP or HTTPS, with a host and with a port other than 0, if any."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and is_printable(url)
    except ValueError:
        return False
