"""JSON texts that somebody else wrote, and that are kept as they are: strict parsers refuse some of them."""

import json
import re
from collections import Counter
from typing import Any

# The first branch matches pairs of surrogates, so the group finds lone halves only. The last branch skips any other
# escape, such as an escaped backslash.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_MAX_DIGITS = 4000
"""Python refuses to read whole numbers of more than 4,300 digits."""


def replace_halves(text: str) -> str:
    r"""Return a JSON text with U+FFFD for each `\ud800` without its other half, which no UTF-8 text can contain."""
    if "\\ud" not in text and "\\uD" not in text:
        return text
    return _ESCAPE.sub(lambda found: r"\ufffd" if found[1] else found[0], text)


def read(text: str) -> Any:
    """Return the value of a JSON text. Halves of surrogate pairs become U+FFFD, and very long numbers stay texts.

    Raises ValueError if it is no JSON, or is nested too deep.
    """
    try:
        return json.loads(replace_halves(text), parse_int=_parse_int)
    except RecursionError:
        raise ValueError("The JSON is nested too deep") from None


def list_repeated(text: str | bytes) -> list[str]:
    """Return the names that one object of a valid JSON text gives more than once: parsers keep only the last value."""
    found: dict[str, None] = {}

    def check(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            found.update((name, None) for name, count in counts.items() if count > 1)

    json.loads(text, object_pairs_hook=check, parse_int=str, parse_float=str)
    return list(found)


def _parse_int(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits
