"""What processing a receipt again would change, tried out."""

from uuid import UUID

from sqlalchemy import Connection

from shared import reprocess
from shared.db import inbox, sources
from shared.reprocess import Difference
from shared.secrets import Vault
from shared.sources import open_source


def of_receipt(connection: Connection, receipt_id: UUID, vault: Vault) -> Difference | None:
    """The difference it would make; None if there is no such receipt. The caller must roll back.

    Raises PayloadError where its body still cannot be read, CredentialsError or SecretsError where its source cannot.
    """
    source_id = inbox.source_of(connection, receipt_id)
    if source_id is None:
        return None
    (row,) = sources.by_ids(connection, [source_id])
    return reprocess.preview(connection, open_source(row, vault), receipt_id)
