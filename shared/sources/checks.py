"""Check a source before its provider posts to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.encryption import Vault
from shared.errors import PayloadError, TidingsError
from shared.http import client as http_client
from shared.http.client import OutboundError
from shared.providers.api.base import ProviderApiError
from shared.providers.api.sqs import SqsClient
from shared.providers.webhooks.base import QueueSettings
from shared.sources import public_keys
from shared.sources.source import Source, open_source
from shared.sources.store import SourceRow

_MIN_PASSWORD_LENGTH = 12
_PROBE = "tidings-check"


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, in a sentence."""

    level: Level
    sentence: str


def check(row: SourceRow, vault: Vault, now: datetime) -> list[Finding]:
    """Check a source, and the URL where its provider publishes keys, if it does."""
    try:
        source = open_source(row, vault)
        credentials = vault.open(row.credentials)
    except TidingsError as error:
        return [Finding(Level.ERROR, f"the source cannot be used: {error}")]
    findings = [Finding(Level.OK, "credentials and settings can be read")]
    password = credentials.get("password")
    if isinstance(password, str) and len(password) < _MIN_PASSWORD_LENGTH:
        sentence = f"the password has fewer than {_MIN_PASSWORD_LENGTH} characters: it can be guessed"
        findings.append(Finding(Level.WARNING, sentence))
    if credentials.get("previous"):
        sentence = "the previous password is still accepted: drop it once the provider uses the new one"
        findings.append(Finding(Level.WARNING, sentence))
    if source.provider.key_lookup(_PROBE) is not None:
        jwks = credentials.get("jwks")
        entries = jwks.get("keys", []) if isinstance(jwks, Mapping) else []
        in_set = [str(entry["kid"]) for entry in entries if isinstance(entry, Mapping) and entry.get("kid")]
        known = list(dict.fromkeys([*(credentials.get("public_keys") or {}), *in_set, *row.fetched_keys]))
        findings.extend(_check_keys(source, known))
    if "*" in source.settings.sub_accounts:
        sentence = "events of every account at the provider are accepted: anyone who has one and knows the URL can post"
        findings.append(Finding(Level.WARNING, f"{sentence}. Name the sub-accounts in settings.sub_accounts"))
    if credentials.get("tenant_id") and source.settings.events_without_tenant == "set_aside":
        sentence = "events that name no tenant are set aside; if the webhook is registered in the tenant itself, which"
        findings.append(Finding(Level.OK, f"{sentence} never names it, set settings.events_without_tenant to accept"))
    if source.settings.queue is not None:
        findings.extend(_check_queue(source, source.settings.queue))
    until = source.settings.quarantine_until
    if until is not None and until > now:
        consequence = "requests that fail verification go to quarantine instead of being refused"
        findings.append(Finding(Level.WARNING, f"until {until:%Y-%m-%d %H:%M} UTC {consequence}"))
    return findings


def _check_queue(source: Source, queue: QueueSettings) -> Iterator[Finding]:
    client = SqsClient(source.slug, queue, source.credentials.access_key)
    try:
        attributes = client.describe()
    except ProviderApiError as error:
        yield Finding(Level.ERROR, f"the queue cannot be used: {error}")
        return
    finally:
        client.close()
    waiting = attributes.get("ApproximateNumberOfMessages", "?")
    in_flight = attributes.get("ApproximateNumberOfMessagesNotVisible", "?")
    yield Finding(Level.OK, f"the queue {queue.url} answers: {waiting} messages wait, {in_flight} are in flight")
    if not attributes.get("RedrivePolicy"):
        sentence = "the queue has no dead-letter queue: a message that is refused is lost when its retention ends"
        yield Finding(Level.WARNING, sentence)
    if not source.credentials.topic_arns:
        sentence = "the source names no `topic_arns`: whatever the queue holds is accepted, so its policy must say who"
        yield Finding(Level.WARNING, f"{sentence} may send")


def _check_keys(source: Source, known: list[str]) -> Iterator[Finding]:
    if known:
        yield Finding(Level.OK, f"it has the keys {', '.join(known)}")
    else:
        yield Finding(
            Level.WARNING, "it has no key yet: the first requests go to quarantine until their key is fetched"
        )
    address = public_keys.address(source, known[0] if known else _PROBE)
    if not address:
        yield Finding(
            Level.WARNING, "the URL of its keys is unknown: set settings.keys_url, so that new keys can be fetched"
        )
        return
    try:
        if not known:  # where keys are fetched one by one, any answer will do
            answer = http_client.get(address)
            yield Finding(Level.OK, f"{address} answers ({answer.status})")
            return
        found = public_keys.fetch(source, known[0])
    except (OutboundError, PayloadError) as error:
        yield Finding(Level.ERROR, f"keys cannot be fetched: {error}")
        return
    if known[0] in found:
        yield Finding(Level.OK, f"{address} answers with {', '.join(found)}")
    else:
        yield Finding(Level.WARNING, f"{address} answers, but does not have the key {known[0]} (any more)")
