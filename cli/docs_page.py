"""Writes docs/classification.md: every judgement, out of the tables that the code applies. Run by `make docs`."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from shared.classification import classify as classification
from shared.classification.classify import HARDNESS, hardness
from shared.classification.enhanced_codes import ENHANCED, HOSTERS, REGISTERED, SUBJECTS
from shared.classification.patterns import WORDINGS
from shared.classification.provider_codes import REPLIES, WORDS, Judgement
from shared.events.bots import APPLE, APPLE_NETWORKS, PREFETCHERS, SCANNERS, SEEN_BY_A_PERSON
from shared.vocabulary import Classification, EventType

PAGE = Path(__file__).parents[1] / "docs" / "classification.md"
REGENERATE = "make docs"

_BEGINNING = f"""# What is judged, and how

Made by `{REGENERATE}` out of `shared/domain/`: change the tables there, not this page. Why the doubtful ones are as
they are: [decision 16](decisions/0016-classification.md).

A failure gets its classification by the first of these that tells something:

1. the provider's own word;
2. the enhanced code, unless it is a vague one;
3. what the server wrote beside it;
4. the vague code, or the subject of a code that has no row here;
5. the reply code; where one says that an address or a domain is gone, only if nothing stands beside it;
6. a vague word of the provider's.

What a bounce of that classification says of the address: hard ones last, soft ones may pass, and none is the sender's
affair. While it is still tried again (`deferred`), nothing is hard.
"""

_OF_TEXTS = """## Texts

Compared word by word, without regard to case, punctuation, numbers and addresses; “…” stands for any words. The first
row that is found holds. A temporary failure condemns no address: if the code begins with a 4, rows that are hard are
passed over.
"""

_OF_REPLIES = """## Reply codes

Any other 4xx is a transient failure; any other 5xx says nothing. Those that are hard hold only where there is neither
an enhanced code nor a text beyond codes and addresses: beside a text that nobody can read the failure is unclassified.
"""

_OF_HARDNESS = """## Hard or soft

Events of other types, such as `rejected`, `held` and `rate_limited`, say nothing of the address.
"""

_OF_AUTOMATION = """## Opens and clicks without a person

Events `opened`, `read` and `clicked` are flagged as `automated` by what they say of who asked. They are never dropped,
and count in `opens`, `reads` and `clicks` like any other.
"""


def compose() -> str:
    """The page."""
    parts = [_BEGINNING, *_of_failures(), *_of_hardness(), *_of_automation()]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _of_failures() -> Iterator[str]:
    yield "## Providers' words"
    yield _judged("word", WORDS)
    yield "## Enhanced codes of the registry"
    yield _table(
        ("code", "registered as", *_HEAD),
        [(key, REGISTERED[key[2:]].says, *_row(row)) for key, row in ENHANCED.items() if key[2:] in REGISTERED],
    )
    yield "## Enhanced codes of large hosters"
    yield _table(
        ("codes", *_HEAD),
        [
            (
                span.first if span.first.endswith(f".{span.last}") else f"{span.first} to {span.last}",
                *_row(Judgement(span.classification, span.why)),
            )
            for span in HOSTERS
        ],
    )
    yield "## Subjects\n\nOf enhanced codes that have no row. 5.0, 5.2 and 5.3 mean anything, and have none."
    yield _judged("class and subject", SUBJECTS)
    yield _OF_REPLIES
    yield _judged("code", REPLIES)
    yield _OF_TEXTS
    yield _table(
        ("what", *_HEAD[:-1], "phrases"),
        [(row.meaning, *_row(Judgement(row.classification))[:-1], "; ".join(row.phrases)) for row in WORDINGS],
    )


def _of_hardness() -> Iterator[str]:
    kinds = sorted({kind for kind, _ in HARDNESS})
    yield _OF_HARDNESS
    yield _table(
        ("classification", "code", *kinds),
        [
            (reason, classification.code(reason), *(hardness(kind, reason) for kind in kinds))
            for reason in Classification
        ],
    )


def _of_automation() -> Iterator[str]:
    yield _OF_AUTOMATION
    networks = "; ".join(APPLE_NETWORKS.values())
    yield _table(
        ("sign", "`automated`", "why"),
        [
            (
                f"exactly `{APPLE}`, unless clicked, from: {networks}",
                "privacy_proxy",
                "Apple's Mail Privacy Protection",
            ),
            *((f"exactly `{agent}`", "privacy_proxy", why) for agent, why in PREFETCHERS.items()),
            *((f"`{part}`", "null", why) for part, why in SEEN_BY_A_PERSON.items()),
            *((_listed(words), "scanner", why) for why, words in SCANNERS.items()),
            ("any word that ends in `bot`", "scanner", "robots, but for Cubot, which makes telephones"),
        ],
    )


_HEAD = ("classification", "number", "a bounce is", "why")


def _judged(name: str, judgements: Mapping[str, Judgement]) -> str:
    return _table((name, *_HEAD), [(key, *_row(row)) for key, row in judgements.items()])


def _row(row: Judgement) -> tuple[object, ...]:
    reason = row.classification
    why = "; ".join(filter(None, ("vague" if row.vague else "", row.why)))
    return reason, classification.code(reason), hardness(EventType.BOUNCED, reason), why


def _listed(words: str) -> str:
    return ", ".join(f"`{word.replace('_', ' ')}`" for word in words.split())


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(compose(), encoding="utf-8")
