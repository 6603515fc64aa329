"""Headers and body of a request in one column, compressed with a dictionary of what providers send.

A frame of Zstandard (RFC 8878) names the dictionary that it needs. A dictionary is therefore never changed and never
removed: `python -m cli.request_dictionary` adds the next one, by which new rows are compressed from then on.
"""

import threading
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import zstandard

from shared.errors import PayloadError, TidingsError

MAX_BYTES: Final = 64 * 1024
"""A larger body is stored as it is: PostgreSQL reads the object of one event from it without reading the rest."""

DICTIONARIES: Final = Path(__file__).parent / "dictionaries"
NEWEST: Final = 1
"""The dictionary by which rows are compressed."""

_DIGEST: Final = "sha-256=:"  # the beginning of a Content-Digest (RFC 9530)
_LEFT_OUT: Final = "\0"  # JSON has no such character
_LEVEL: Final = 3  # the next ones cost several times as much time for 1 % fewer bytes


class _Codecs(threading.local):
    """Compressor and decompressors of a thread; they are not safe for use by several."""

    def __init__(self) -> None:
        self.decompressors: dict[int, zstandard.ZstdDecompressor] = {}
        self.compressor: zstandard.ZstdCompressor | None = None


_codecs = _Codecs()


def pack(headers: str, body: bytes) -> bytes | None:
    """Return headers (JSON in one line) and body as they are stored in one column; None if the body is too large."""
    if len(body) > MAX_BYTES:
        return None
    if (compressor := _codecs.compressor) is None:
        compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_dictionary(NEWEST))
        _codecs.compressor = compressor
    return compressor.compress(join(headers, body))


def join(headers: str, body: bytes) -> bytes:
    """Return headers and body as one text, in which a digest of the body is left out: nothing compresses a hash."""
    if _DIGEST in headers:
        headers = headers.replace(_digest(body), _LEFT_OUT)
    return b"%b\n%b" % (headers.encode(), body)


def unpack(content: bytes) -> tuple[str, bytes]:
    """Return headers (JSON) and body, byte for byte.

    Raises PayloadError if they are damaged, and another TidingsError if a later version has stored them.
    """
    try:
        number = zstandard.get_frame_parameters(content).dict_id
        if (decompressor := _codecs.decompressors.get(number)) is None:
            decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary(number))
            _codecs.decompressors[number] = decompressor
        head, _, body = decompressor.decompress(content).partition(b"\n")
        headers = head.decode()
    except (zstandard.ZstdError, UnicodeDecodeError) as error:
        raise PayloadError(f"The stored request is damaged: {error}") from None
    return headers.replace(_LEFT_OUT, _digest(body)) if _LEFT_OUT in headers else headers, body


def read(headers: str | None, body: bytes | None, content: bytes | None) -> tuple[str, bytes | None]:
    """Return headers (JSON) and body of a row of `receipts`; the body is None once it is erased."""
    return (headers or "{}", body) if content is None else unpack(content)


def body_of(body: bytes | None, content: bytes | None) -> bytes | None:
    """Return the body of a row of `receipts`, of which one column has it; None once it is erased."""
    return body if content is None else unpack(content)[1]


def _digest(body: bytes) -> str:
    return b64encode(sha256(body).digest()).decode()


@cache
def _dictionary(number: int) -> zstandard.ZstdCompressionDict:
    try:
        data = (DICTIONARIES / f"requests-{number}.zdict").read_bytes()
    except FileNotFoundError:
        raise TidingsError(
            f"A later version of Tidings has stored this request, with dictionary {number}; update this one."
        ) from None
    dictionary = zstandard.ZstdCompressionDict(data)
    if number == NEWEST:
        dictionary.precompute_compress(level=_LEVEL)
    return dictionary
