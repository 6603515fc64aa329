"""Checking a source before its provider posts: what would go wrong, and why."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from shared.encryption import Vault
from shared.errors import PayloadError, TidingsError
from shared.http import client as http_client
from shared.http.client import OutboundError
from shared.sources import public_keys
from shared.sources.public_keys import NoSuchKeyError
from shared.sources.source import Source, open_source
from shared.sources.store import SourceRow

_SHORT_PASSWORD = 12
_PROBE = "tidings-check"


class Weight(StrEnum):
    """What a finding means for the source."""

    GOOD = "good"
    DOUBT = "doubt"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, in a sentence."""

    weight: Weight
    sentence: str


def check(row: SourceRow, vault: Vault, now: datetime) -> list[Finding]:
    """Look at a source, and at the address of its provider's keys where these are published."""
    try:
        source = open_source(row, vault)
        credentials = vault.open(row.credentials)
    except TidingsError as error:
        return [Finding(Weight.FAULT, f"it cannot be used: {error}")]
    return [
        Finding(Weight.GOOD, "credentials and settings can be read"),
        *_of_secrets(credentials),
        *_of_keys(source, _key_ids(credentials, row.fetched_keys)),
        *_of_quarantine(source, now),
    ]


def _of_secrets(credentials: Mapping[str, Any]) -> Iterator[Finding]:
    password = credentials.get("password")
    if isinstance(password, str) and len(password) < _SHORT_PASSWORD:
        yield Finding(Weight.DOUBT, f"the password has less than {_SHORT_PASSWORD} characters: it can be guessed")
    if credentials.get("previous"):
        yield Finding(
            Weight.DOUBT, "the previous password is let in as well: drop it when the provider has the new one"
        )


def _of_keys(source: Source, known: list[str]) -> Iterator[Finding]:
    if source.provider.key_lookup(_PROBE) is None:
        return
    if known:
        yield Finding(Weight.GOOD, f"it has the keys {', '.join(known)}")
    else:
        yield Finding(Weight.DOUBT, "it has no key yet: the first requests are kept apart until theirs is fetched")
    address = public_keys.address(source, known[0] if known else _PROBE)
    if not address:
        yield Finding(Weight.DOUBT, "no address of its keys is known: set settings.keys_url, or a new key is not found")
        return
    yield _reached(source, address, known)


def _reached(source: Source, address: str, known: list[str]) -> Finding:
    """What the address of the keys answers. One of many keys is asked for by a name: then any will do."""
    try:
        if not known:
            answer = http_client.get(address)
            return Finding(Weight.GOOD, f"{address} answers ({answer.status})")
        found = public_keys.fetch(source, known[0])
    except NoSuchKeyError:
        return Finding(Weight.DOUBT, f"{address} answers, but does not know the key {known[0]} (any more)")
    except (OutboundError, PayloadError) as error:
        return Finding(Weight.FAULT, f"keys cannot be fetched: {error}")
    return Finding(Weight.GOOD, f"{address} answers with {', '.join(found)}")


def _of_quarantine(source: Source, now: datetime) -> Iterator[Finding]:
    until = source.settings.quarantine_until
    if until is not None and until > now:
        sentence = f"until {until:%Y-%m-%d %H:%M} UTC requests that fail verification are kept apart, not refused"
        yield Finding(Weight.DOUBT, sentence)


def _key_ids(credentials: Mapping[str, Any], fetched: Mapping[str, str]) -> list[str]:
    jwks = credentials.get("jwks")
    entries = jwks.get("keys", []) if isinstance(jwks, Mapping) else []
    in_set = [str(entry["kid"]) for entry in entries if isinstance(entry, Mapping) and entry.get("kid")]
    return list(dict.fromkeys([*(credentials.get("public_keys") or {}), *in_set, *fetched]))
