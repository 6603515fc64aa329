"""Cache of all subscriptions. Every change of one increments a stamp in the database, which triggers a reload."""

from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection, Row

from shared.encryption import SecretsError, Vault
from shared.subscriptions import store
from shared.subscriptions.model import ChangeSubject, Matcher, Subscription
from shared.subscriptions.secrets import open_subscription
from shared.vocabulary import SubscriptionState

log = structlog.get_logger()


class SubscriptionCache:
    """All subscriptions that are not deleted. Secrets are decrypted at the first use."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._stamp = -1
        self._rows: dict[UUID, Row[Any]] = {}
        self._opened: dict[UUID, Subscription | None] = {}
        self._matcher: Matcher[Row[Any]] = Matcher(())
        self.is_empty = True

    def refresh(self, connection: Connection) -> None:
        """Load changed subscriptions.

        If called after reading changes, the cache has every subscription that existed before these changes.
        """
        stamp = store.get_stamp(connection)
        if stamp == self._stamp:
            return
        versions = store.get_versions(connection)
        for id_ in [id_ for id_, row in self._rows.items() if versions.get(id_) != row.version]:
            del self._rows[id_]
            self._opened.pop(id_, None)
        missing = [id_ for id_ in versions if id_ not in self._rows]
        self._rows |= {row.id: row for row in (store.get_many(connection, missing) if missing else ())}
        enabled = [row for row in self._rows.values() if row.state != SubscriptionState.DISABLED]
        self._matcher = Matcher(enabled)
        self.is_empty = not enabled
        self._stamp = stamp  # the stamp from before reading, so that concurrent changes are read again

    def subscribers_for(self, subject: ChangeSubject, transaction: int) -> list[Row[Any]]:
        """Return the subscriptions that match a change, without those that were created after its transaction."""
        return [row for row in self._matcher.subscribers_for(subject) if int(row.begins) <= transaction]

    def find(self, subscription_id: UUID) -> Subscription | None:
        """Return a subscription; None if it does not exist or cannot be decrypted. The latter is logged."""
        if subscription_id not in self._opened and subscription_id in self._rows:
            try:
                self._opened[subscription_id] = open_subscription(self._rows[subscription_id], self._vault)
            except SecretsError as error:
                log.error("subscription cannot be used", subscription=str(subscription_id), error=str(error))  # noqa: TRY400
                self._opened[subscription_id] = None
        return self._opened.get(subscription_id)
