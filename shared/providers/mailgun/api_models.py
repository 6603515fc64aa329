"""The JSON of Mailgun's API, and its translation. Unreadable JSON raises ValueError."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec

from shared.providers.api.base import ListedSuppression, NewSuppression
from shared.providers.api.fields import Text
from shared.providers.webhooks.payload import read_time
from shared.vocabulary import ALL_MAIL, MailType, SuppressionReason

_UNSUBSCRIBES: Final = "unsubscribes"
LISTS: Mapping[str, SuppressionReason] = {
    "bounces": SuppressionReason.HARD_BOUNCE,
    "complaints": SuppressionReason.COMPLAINT,
    _UNSUBSCRIBES: SuppressionReason.UNSUBSCRIBE,
}
"""The lists by Mailgun's words for them."""

_ALL_TAGS = "*"
_NOT_TO_ALL = frozenset({MailType.NON_TRANSACTIONAL})


class _Urls(msgspec.Struct):
    urls: list[Text] | None = None
    url: Text | None = None  # of old webhooks


class _Webhooks(msgspec.Struct):
    webhooks: dict[str, _Urls | None]


class _Entry(msgspec.Struct):
    address: Text
    created_at: Text | None = None
    error: Text | None = None
    tags: list[Text] | None = None


class _Paging(msgspec.Struct):
    next: Text | None = None


class _Entries(msgspec.Struct):
    items: list[_Entry] | None = None
    paging: _Paging | None = None


class Page(NamedTuple):
    """A page of a list, and the query of the next; None after the last."""

    entries: Sequence[ListedSuppression]
    next: Mapping[str, str | int] | None


_webhooks = msgspec.json.Decoder(_Webhooks).decode
_entries = msgspec.json.Decoder(_Entries).decode


def read_webhooks(body: bytes) -> dict[str, list[str]]:
    """Parse the URLs of each kind of event of a domain."""
    found = {}
    for kind, given in _webhooks(body).webhooks.items():
        urls = (given.urls or ([given.url] if given.url else [])) if given else []
        if urls:
            found[kind] = list(urls)
    return found


def read_suppressions(body: bytes, word: str) -> Page:
    """Parse a page of the list with this name. Unsubscriptions from the mail of some tags only are left out."""
    document = _entries(body)
    entries = [
        ListedSuppression(
            address=entry.address,
            types=_NOT_TO_ALL if word == _UNSUBSCRIBES else ALL_MAIL,
            reason=LISTS[word],
            word=word,
            note=entry.error or None,
            created_at=read_time(entry.created_at),
        )
        for entry in document.items or ()
        if entry.tags is None or _ALL_TAGS in entry.tags
    ]
    # Of the URL of the next page only the query is followed: the key is for one host. There is one after the last page.
    following = document.paging and document.paging.next
    return Page(entries, dict(parse_qsl(urlsplit(following).query)) if document.items and following else None)


def list_for(reason: SuppressionReason) -> str:
    """Return the list that an entry is added to."""
    if reason in (SuppressionReason.HARD_BOUNCE, SuppressionReason.SOFT_BOUNCE):
        return "bounces"
    return "complaints" if reason is SuppressionReason.COMPLAINT else _UNSUBSCRIBES


def suppression(entry: NewSuppression, word: str) -> dict[str, object]:
    """Return what adds an entry to the list with this name."""
    if word == "bounces":
        return {"address": entry.address, "code": "550", "error": entry.note}
    return {"address": entry.address, **({"tags": [_ALL_TAGS]} if word == _UNSUBSCRIBES else {})}
