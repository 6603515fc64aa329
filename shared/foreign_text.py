"""Text from outside (SMTP replies, subjects, addresses, names), made safe to show to people.

A terminal obeys escape sequences, bidirectional controls reorder a line, and a line break forges another one. JSON
output needs none of this: it stays exact.
"""

import re

_LINE_BREAKS = re.compile(r"\s*[\t\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]\s*")
_NOT_PRINTED = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 and C1, without tab and line breaks
    "\u2028\u2029"  # separators of lines and paragraphs
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls
    "\xad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff"  # shown as nothing
    "\ufff9-\ufffb\U000e0000-\U000e007f"  # annotations and tags
    "\ud800-\udfff"  # halves of surrogate pairs, which cannot be encoded
)
_CONTROLS = re.compile(f"[{_NOT_PRINTED}]|\r(?!\n)")

# Also with the full-width signs, which spreadsheets of some languages take for the usual ones.
_FORMULA = re.compile(r"[\s']*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def show(text: str, *, lines: bool = False) -> str:
    r"""Return a text that can be printed: controls and invisible characters are written as `\x1b` or `\u202e`.

    Line breaks and tabs become spaces, unless `lines`: then the text may have several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    if not lines:
        text = _LINE_BREAKS.sub(" ", text)
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def show_cell(text: str) -> str:
    """Return a text for a cell of CSV. A spreadsheet would run some as formulas: they begin with an apostrophe."""
    text = show(text, lines=True)
    return f"'{text}" if _FORMULA.match(text) else text


def read_cell(text: str) -> str:
    """Return the text of a cell without the apostrophe that `show_cell` added."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
