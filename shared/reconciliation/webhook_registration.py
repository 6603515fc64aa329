"""Whether a provider posts to us: the account's webhooks and the provider's test of them, stored for diagnosis."""

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Engine

from shared.encryption import Vault
from shared.errors import ConflictError
from shared.providers.api.base import INTERACTIVE_RETRIES, ProviderApi, RetryBudget, Validation, Webhook, is_ours
from shared.reconciliation import store as reconciliations
from shared.sources import provider_api
from shared.sources import service as source_service
from shared.sources.source import Source, open_source
from shared.sources.store import SourceRow

Audit = Callable[..., None]
"""Records a change in its transaction: `audit(connection, action, object, **details)`."""


def enrol(
    engine: Engine,
    vault: Vault,
    row: SourceRow,
    url: str | None,
    audit: Audit,
    *,
    retries: RetryBudget = INTERACTIVE_RETRIES,
) -> tuple[Source, Sequence[Webhook], bool]:
    """Register our webhook at the provider: at `url`, which is stored, or at the source's `webhook_url`.

    Returns the source as it is then, the account's webhooks, and whether the provider did not have this one before.
    Raises ConflictError if no URL is known, InvalidFieldError, CredentialsError, SecretsError, or ProviderApiError.
    """
    slug = row.slug
    if url:
        with engine.begin() as connection:
            row = source_service.change(connection, vault, slug, settings={"webhook_url": url}) or row
            audit(connection, "source.changed", f"source:{slug}", settings={"webhook_url": url})
    source = open_source(row, vault)
    if source.settings.queue is not None:
        raise ConflictError(f"{slug} takes its events from a queue, so no webhook is needed.")
    wanted = source.settings.webhook_url
    if wanted is None:
        raise ConflictError(
            f"The public URL of {slug} is unknown. Give it as `url` (`--url` of the command), such as"
            f" https://<your host>/webhooks/{slug}, or set `webhook_url` in the settings of the source."
        )
    client = provider_api.open_client(source, retries)
    is_new = client.enrol(wanted)
    with engine.begin() as connection:
        if settings := source.provider.settings_after_registration(source.credentials):
            source_service.change(connection, vault, slug, settings=settings)
        audit(connection, "source.enrolled", f"source:{slug}", url=wanted, new=is_new)
    return source, list_webhooks(engine, source, client), is_new


def remove(
    engine: Engine, source: Source, chosen: Sequence[Webhook], client: ProviderApi, audit: Audit
) -> Sequence[Webhook]:
    """Remove webhooks of the account, and return those that stay. Raises ProviderApiError."""
    client.remove(chosen)
    with engine.begin() as connection:
        audit(connection, "source.unenrolled", f"source:{source.slug}", urls=[one.url for one in chosen])
    return list_webhooks(engine, source, client)


def choose(source: Source, webhooks: Iterable[Webhook], url: str | None) -> list[Webhook]:
    """Return the webhook of this URL, or without one those that lead to the source. Raises ConflictError if none."""
    chosen = [one for one in webhooks if one.url == url] if url else own(source, webhooks)
    if not chosen:
        raise ConflictError(f"The provider does not post to {url or source.slug}.")
    return chosen


def list_webhooks(engine: Engine, source: Source, client: ProviderApi) -> Sequence[Webhook]:
    """Return the account's webhooks, and store them for diagnosis. Raises ProviderApiError."""
    webhooks = client.webhooks()
    shown = describe(source, webhooks)
    with engine.begin() as connection:
        reconciliations.ensure(connection, [source.id])
        enrolled = None if source.settings.queue else any(one.enabled for one in own(source, webhooks))
        reconciliations.record_webhooks(connection, source.id, shown, enrolled=enrolled)
    return webhooks


def choose_testable(engine: Engine, source: Source, client: ProviderApi) -> list[Webhook]:
    """Return the webhooks that lead to the source, if the provider can test them.

    Raises ConflictError if there are none, and ProviderApiError.
    """
    if not source.provider.sends_tests:
        client.validate(())  # raises, and says what to do instead
    ours = own(source, list_webhooks(engine, source, client))
    if not ours:
        raise ConflictError(
            f"The provider does not post to {source.slug}. Register its webhook first:"
            f" `tidings sources enrol {source.slug}`."
        )
    return ours


def validate(
    engine: Engine, source: Source, client: ProviderApi, webhooks: Sequence[Webhook], audit: Audit | None = None
) -> list[Validation]:
    """Make the provider test these webhooks of ours, and store the result. Raises ProviderApiError.

    Workers test without being asked; then there is no `audit`.
    """
    results = list(client.validate(webhooks))
    validated = bool(results) and all(result.passed for result in results)
    with engine.begin() as connection:
        reconciliations.ensure(connection, [source.id])
        reconciliations.record_validation(connection, source.id, validated=validated)
        if audit is not None:
            urls = [result.url for result in results]
            audit(connection, "source.validated", f"source:{source.slug}", urls=urls, passed=validated)
    return results


def describe(source: Source, webhooks: Iterable[Webhook]) -> list[dict[str, object]]:
    """Return webhooks as they are stored and shown."""
    return [{"url": one.url, "enabled": one.enabled, "ours": is_own(source, one)} for one in webhooks]


def own(source: Source, webhooks: Iterable[Webhook]) -> list[Webhook]:
    """Return the webhooks that lead to this source."""
    return [webhook for webhook in webhooks if is_own(source, webhook)]


def is_own(source: Source, webhook: Webhook) -> bool:
    """Return whether a webhook leads to this source."""
    return is_ours(webhook.url, source.slug, source.settings.webhook_url)
