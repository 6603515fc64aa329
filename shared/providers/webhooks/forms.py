"""Queries and form bodies: `application/x-www-form-urlencoded` and `multipart/form-data` (RFC 7578)."""

from collections.abc import Mapping, Sequence
from email.errors import MessageError
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl, unquote_plus, urlencode

from shared.errors import PayloadError
from shared.providers.webhooks.base import QUERY, WebhookRequest

_MAX_FIELDS = 1000


def query_value(request: WebhookRequest, name: str) -> str:
    """Return the first value of this name in the query; an empty text if there is none."""
    try:
        pairs = parse_qsl(request.headers.get(QUERY, ""), max_num_fields=_MAX_FIELDS)
    except ValueError:
        return ""
    return next((value for found, value in pairs if found == name), "")


def drop_from_query(query: str, name: str) -> str:
    """Return a query string without the values of this name, and all others as they were written."""
    return "&".join(pair for pair in query.split("&") if pair and unquote_plus(pair.partition("=")[0]) != name)


def write_query(values: Mapping[str, str]) -> str:
    """Return a query string of these values."""
    return urlencode(values)


def read(body: bytes) -> Mapping[str, str]:
    """Return the fields of a form, with the last value of each name. Raises PayloadError.

    The body itself says which kind it is: a multipart one begins with its boundary.
    """
    try:
        if body.startswith(b"--"):
            pairs = _read_parts(body)
        else:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=_MAX_FIELDS)
    except (ValueError, MessageError, LookupError, AssertionError) as error:
        raise PayloadError(f"The form cannot be read: {error}") from None
    if not pairs:
        raise PayloadError("The body is not a form: it has no field")
    return {name: value.replace("\0", "\ufffd") for name, value in pairs}


def _read_parts(body: bytes) -> Sequence[tuple[str, str]]:
    boundary = body[2 : max(body.find(b"\n"), 0)].strip()
    head = b'Content-Type: multipart/form-data; boundary="%b"\r\n\r\n' % boundary
    if not boundary or body.count(b"--" + boundary) > _MAX_FIELDS:
        raise ValueError("no boundary, or too many parts")
    form = BytesParser(policy=HTTP).parsebytes(head + body)
    pairs = []
    for part in form.iter_parts():
        name = part.get_param("name", header="content-disposition")
        # The files of a form are not read.
        if isinstance(name, str) and part.get_filename() is None:
            content = part.get_payload(decode=True)
            pairs.append((name, content.decode() if isinstance(content, bytes) else ""))
    return pairs
