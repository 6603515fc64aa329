"""JSON texts that somebody else wrote, and that are kept as they are: strict parsers refuse some of them."""

import json
import math
import re
from collections import Counter
from contextlib import suppress
from typing import Any

# The first branch matches pairs of surrogates, so the group finds only lone halves, and NUL. The last branch skips any
# other escape, such as an escaped backslash.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u0000|u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_MAX_DIGITS = 4000
"""Python refuses to read whole numbers of more than 4,300 digits."""


def clean(text: bytes) -> bytes:
    r"""Return a JSON text with U+FFFD for `\u0000`, and for each half of a surrogate pair, such as `\ud800`.

    Neither msgspec nor PostgreSQL takes the halves, and PostgreSQL no NUL.
    """
    if not any(escape in text for escape in (b"\\u0000", b"\\ud", b"\\uD")):
        return text
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], text)


def read(text: str) -> Any:
    """Return the value of a JSON text, cleaned. Very long whole numbers, and numbers that no float holds, stay texts.

    Raises ValueError if it is no JSON, or is nested too deep.
    """
    try:
        return json.loads(clean(text.encode()), parse_int=_parse_int, parse_float=_parse_float)
    except RecursionError:
        raise ValueError("The JSON is nested too deep") from None


def read_of_person(text: str) -> Any:
    """Return the value of a JSON text that a person wrote.

    Raises ValueError if it is no JSON, is nested too deep, or an object gives a name twice. The message is a predicate
    that follows the name of the text.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from None
    if repeated := list_repeated(text, limit=1):
        raise ValueError(f"gives the name {repeated[0]!r} twice")
    return value


class _LimitReachedError(Exception):
    """As many names were found as were wanted."""


def list_repeated(text: str | bytes, *, limit: int) -> list[str]:
    """Return names that one object of a valid JSON text gives more than once: parsers keep only the last value.

    Reading ends once `limit` names are found.
    """
    found: dict[str, None] = {}

    def check(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            found.update((name, None) for name, count in counts.items() if count > 1)
            if len(found) >= limit:
                raise _LimitReachedError

    with suppress(_LimitReachedError):
        json.loads(text, object_pairs_hook=check, parse_int=str, parse_float=str)
    return list(found)[:limit]


def _parse_int(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _parse_float(text: str) -> float | str:
    number = float(text)
    return text if math.isinf(number) else number
