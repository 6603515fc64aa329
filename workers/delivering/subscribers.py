"""The subscriptions, kept in memory and never out of date: a stamp in the database tells when to look again."""

from uuid import UUID

import structlog
from sqlalchemy import Connection

from shared.db import subscriptions
from shared.db.subscriptions import SubscriptionRow
from shared.domain.matching import Matcher
from shared.domain.subscriptions import ChangeSubject, Subscription, SubscriptionState
from shared.encryption import SecretsError, Vault
from shared.subscriptions import open_subscription

log = structlog.get_logger()


class Subscribers:
    """Every subscription that there is; what is secret of one is opened when it is asked for."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._stamp = -1
        self._rows: dict[UUID, SubscriptionRow] = {}
        self._opened: dict[UUID, Subscription | None] = {}
        self._matcher: Matcher[SubscriptionRow] = Matcher(())

    def refresh(self, connection: Connection) -> None:
        """Take in what was changed.

        Whoever reads changes first and refreshes then knows every subscription that was there before any of them.
        """
        stamp = subscriptions.stamp(connection)
        if stamp == self._stamp:
            return
        versions = subscriptions.versions(connection)
        for id_ in self._rows.keys() - versions.keys():
            self._forget(id_)
        changed = [
            id_ for id_, version in versions.items() if id_ not in self._rows or self._rows[id_].version != version
        ]
        for row in subscriptions.by_ids(connection, changed) if changed else ():
            self._forget(row.id)
            self._rows[row.id] = row
        self._matcher = Matcher([row for row in self._rows.values() if row.state != SubscriptionState.DISABLED])
        self._stamp = stamp  # of before: what was changed meanwhile is looked at again

    def wanting(self, subject: ChangeSubject, transaction: int) -> list[SubscriptionRow]:
        """Those that want a change of this transaction: disabled ones do not, nor those that came after it."""
        return [row for row in self._matcher.wanting(subject) if row.begins <= transaction]

    def find(self, subscription_id: UUID) -> Subscription | None:
        """One of them; None where it is gone, or cannot be opened, which is logged."""
        if subscription_id not in self._opened and subscription_id in self._rows:
            self._opened[subscription_id] = self._open(self._rows[subscription_id])
        return self._opened.get(subscription_id)

    def _open(self, row: SubscriptionRow) -> Subscription | None:
        try:
            return open_subscription(row, self._vault)
        except SecretsError as error:
            log.error("a subscription cannot be used", subscription=str(row.id), error=str(error))  # noqa: TRY400
            return None

    def _forget(self, subscription_id: UUID) -> None:
        self._rows.pop(subscription_id, None)
        self._opened.pop(subscription_id, None)
