"""Whether a provider posts to us: the account's webhooks and the provider's test of them, stored for diagnosis."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Engine

from shared.providers.api.base import ProviderApi, Validation, Webhook, is_ours
from shared.reconciliation import store as reconciliations
from shared.sources.source import Source


def list_webhooks(engine: Engine, source: Source, client: ProviderApi) -> Sequence[Webhook]:
    """Return the account's webhooks, and store them for diagnosis. Raises ProviderApiError."""
    webhooks = client.webhooks()
    shown = [{"url": one.url, "enabled": one.enabled, "ours": is_own(source, one)} for one in webhooks]
    with engine.begin() as connection:
        reconciliations.ensure(connection, [source.id])
        enrolled = any(one.enabled for one in own(source, webhooks))
        reconciliations.record_webhooks(connection, source.id, shown, enrolled=enrolled)
    return webhooks


def validate(engine: Engine, source: Source, client: ProviderApi, webhooks: Sequence[Webhook]) -> list[Validation]:
    """Make the provider test these webhooks of ours, and store the result. Raises ProviderApiError."""
    results = list(client.validate(webhooks))
    with engine.begin() as connection:
        reconciliations.ensure(connection, [source.id])
        validated = bool(results) and all(result.passed for result in results)
        reconciliations.record_validation(connection, source.id, validated=validated)
    return results


def own(source: Source, webhooks: Iterable[Webhook]) -> list[Webhook]:
    """Return the webhooks that lead to this source."""
    return [webhook for webhook in webhooks if is_own(source, webhook)]


def is_own(source: Source, webhook: Webhook) -> bool:
    """Return whether a webhook leads to this source."""
    return is_ours(webhook.url, source.slug, source.settings.webhook_url)
