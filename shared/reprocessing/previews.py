"""What processing a receipt again would change, tried out."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection

from shared.encryption import Vault
from shared.receipts import queries as receipt_queries
from shared.reprocessing import reprocess
from shared.reprocessing.reprocess import Difference
from shared.rules import store
from shared.sources import store as sources
from shared.sources.source import open_source
from shared.suppression import recipient_hashes


def of_receipt(connection: Connection, receipt_id: UUID, vault: Vault) -> Difference | None:
    """The difference it would make by the rules in force; None if there is no such receipt. The caller must roll back.

    Raises PayloadError where its body still cannot be read, CredentialsError or SecretsError where its source cannot,
    RulesError where the rules cannot.
    """
    source_id = receipt_queries.source_of(connection, receipt_id)
    if source_id is None:
        return None
    (row,) = sources.by_ids(connection, [source_id])
    source, keys = open_source(row, vault), recipient_hashes.load(connection, vault)
    policy = store.overview(connection).rules.suppression
    return reprocess.preview(connection, source, receipt_id, policy, keys, datetime.now(UTC))
