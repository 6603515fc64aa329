"""Whether a provider posts to us: what its API tells of the webhooks, and what its test finds, kept for diagnosis."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Engine

from shared.providers.api.base import ProviderApi, Validation, Webhook, is_ours
from shared.reconciliation import store as reconciliations
from shared.sources.source import Source


def look(engine: Engine, source: Source, client: ProviderApi) -> Sequence[Webhook]:
    """The account's webhooks, as they are now. Raises ManagementError."""
    webhooks = client.webhooks()
    shown = [{"url": one.url, "enabled": one.enabled, "ours": is_own(source, one)} for one in webhooks]
    with engine.begin() as connection:
        reconciliations.ensure(connection, [source.id])
        enrolled = any(one.enabled for one in own(source, webhooks))
        reconciliations.note_webhooks(connection, source.id, shown, enrolled=enrolled)
    return webhooks


def validate(engine: Engine, source: Source, client: ProviderApi, webhooks: Sequence[Webhook]) -> list[Validation]:
    """Have the provider test these webhooks of ours. Raises ManagementError."""
    results = list(client.validate(webhooks))
    with engine.begin() as connection:
        reconciliations.ensure(connection, [source.id])
        validated = bool(results) and all(result.passed for result in results)
        reconciliations.note_validation(connection, source.id, validated=validated)
    return results


def own(source: Source, webhooks: Iterable[Webhook]) -> list[Webhook]:
    """Those of the webhooks that lead to this source."""
    return [webhook for webhook in webhooks if is_own(source, webhook)]


def is_own(source: Source, webhook: Webhook) -> bool:
    """Whether a webhook leads to this source."""
    return is_ours(webhook.url, source.slug, source.settings.webhook_url)
