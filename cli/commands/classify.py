"""`tidings classify`: explains the judgement on the reply of a mail server."""

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Final

import click
import msgspec

from shared.classification import diagnostic_text
from shared.classification.classify import Hardness, code_of, find_codes, hardness, judge
from shared.classification.enhanced_codes import REGISTERED
from shared.diagnosis.advice import advise
from shared.errors import InvalidFieldError
from shared.foreign_text import show
from shared.vocabulary import EventType

_CONSEQUENCES = {
    Hardness.HARD: "hard: the address is suppressed",
    Hardness.SOFT: "soft: it counts towards the suppression for repeated bounces",
    Hardness.NONE: "neither hard nor soft: the address is not the cause",
}
_CONTINUED: Final = re.compile(r"[2-5][0-9]{2}-")


class Failure(msgspec.Struct, forbid_unknown_fields=True):
    """The input of the classification: the reply code, the enhanced code, the text, and the provider's word."""

    text: str | None = None
    smtp_status: str | None = None
    enhanced_code: str | None = None
    word: str | None = None


@click.command
@click.argument("reply", required=False)
@click.option("--smtp-status", help="The reply code, such as 550, if it is not in REPLY.")
@click.option("--enhanced-code", help="The enhanced code, such as 5.1.1, if it is not in REPLY.")
@click.option("--word", help="The provider's word for the failure, such as hard-bounced or retries_exhausted.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def classify(
    reply: str | None, smtp_status: str | None, enhanced_code: str | None, word: str | None, as_json: bool
) -> None:
    """Explain how the REPLY of a mail server is classified: the codes read, the row that decides, and its reason.

    Without REPLY and options, replies are read from standard input, one a line; a line such as "550-no" goes on in the
    next one. A line that begins with "{" is a JSON object with text, smtp_status, enhanced_code and word.

    \b
    tidings classify "550 5.1.1 User unknown"
    tidings classify --word hard-bounced
    """
    if any((reply, smtp_status, enhanced_code, word)):
        _print(Failure(reply, smtp_status, enhanced_code, word), as_json=as_json)
        return
    if sys.stdin.isatty():
        raise click.UsageError('Name a reply, such as: tidings classify "550 5.1.1 User unknown"')
    for number, reply_read in _read_replies(sys.stdin):
        if reply_read.startswith("{"):
            try:
                _print(msgspec.json.decode(reply_read, type=Failure), as_json=as_json)
            except msgspec.DecodeError as error:
                message = f"Line {number} of standard input: {error}"
                raise InvalidFieldError(f"Line {number}", reply_read, message) from None
        else:
            _print(Failure(reply_read), as_json=as_json)


def _read_replies(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield the replies with the numbers of their first lines. Lines of one reply are joined (RFC 5321, 4.2.1)."""
    reply: list[str] = []
    first = 1
    for number, line in enumerate(map(str.strip, lines), 1):
        if reply and not line.startswith(reply[-1][:3]):
            yield first, "\n".join(reply)
            reply = []
        if not line:
            continue
        first = first if reply else number
        reply.append(line)
        if not _CONTINUED.match(line):
            yield first, "\n".join(reply)
            reply = []
    if reply:
        yield first, "\n".join(reply)


def _print(known: Failure, *, as_json: bool) -> None:
    for field, value, which, example in (
        ("smtp_status", known.smtp_status, 0, "a reply code of three digits, such as 550"),
        ("enhanced_code", known.enhanced_code, 1, "an enhanced code, such as 5.1.1"),
    ):
        if value and find_codes(value)[which] is None:
            raise InvalidFieldError(field, value, f"{field}: expected {example}, found “{value}”")
    smtp_status, enhanced_code = find_codes(known.smtp_status, known.enhanced_code, known.text)
    found = judge(known.word, enhanced_code, smtp_status, known.text)
    of_bounce = hardness(EventType.BOUNCED, found.classification)
    registered = REGISTERED.get(found.row[2:]) if found.table == "enhanced code" else None
    matched = diagnostic_text.quote(known.text, found.row) if known.text and found.table == "text" else None
    advised = advise(found.row if found.table == "provider word" else None, found.classification)
    if as_json:
        judgement = {
            "classification": found.classification,
            "code": code_of(found.classification).value,
            "hardness": of_bounce,
            "decided_by": found.table,
            "row": found.row or None,
            "registered_as": registered.description if registered else None,
            "matched": matched,
            "reason": found.why or None,
            "advice": advised,
            **msgspec.to_builtins(known),
            "smtp_status": smtp_status,
            "enhanced_code": enhanced_code,
        }
        click.echo(msgspec.json.encode(judgement).decode())
        return
    lines = {
        "reply": known.text,
        "codes": " ".join(filter(None, (smtp_status, enhanced_code))) or "none",
        "classification": f"{found.classification} ({code_of(found.classification).value})",
        "a bounce is": _CONSEQUENCES[of_bounce],
        "decided by": ": ".join(filter(None, (found.table, found.row, registered.description if registered else ""))),
        "matched words": matched,
        "reason": found.why,
        "advice": advised,
    }
    for name, value in lines.items():
        if value:
            click.echo(f"{name + ':':<15} {show(value)}")
    click.echo()
