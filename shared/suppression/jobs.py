"""Asking for long work on the suppression list. Whoever asks rings for the workers, after the commit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from shared.addresses import normalize
from shared.encryption import Vault
from shared.jobs import files as job_files
from shared.jobs import store as jobs
from shared.suppression import csv_files
from shared.suppression.csv_files import Defaults
from shared.suppression.queries import Wanted
from shared.suppression.recipient_hashes import RecipientKeys

IMPORT: Final = "import_suppressions"
EXPORT: Final = "export_suppressions"
ERASE: Final = "erase"

CSV: Final = "csv"
ROWS: Final = "rows"
_PART_BYTES: Final = 1 << 20


def ask_import_of_csv(
    connection: Connection,
    content: bytes,
    defaults: Defaults,
    *,
    skip_bad_lines: bool,
    replace: bool = False,
    asked_by: str,
    now: datetime,
) -> UUID:
    """Have a CSV file put on the list; the id of the job. Raises ListError where its first line cannot be used.

    With `replace` it takes the place of what imports said before; otherwise that stays as wide as it is.
    """
    csv_files.read_header(first_line(content))
    wishes = {"skip_bad_lines": skip_bad_lines, "replace": replace}
    return _ask_import(connection, CSV, content, defaults, wishes, asked_by, now)


def ask_import_of_rows(
    connection: Connection,
    rows: Sequence[Mapping[str, Any]],
    defaults: Defaults,
    *,
    skip_bad_lines: bool,
    replace: bool = False,
    asked_by: str,
    now: datetime,
) -> UUID:
    """The same of objects whose fields are the columns of such a file."""
    content = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    wishes = {"skip_bad_lines": skip_bad_lines, "replace": replace}
    return _ask_import(connection, ROWS, content, defaults, wishes, asked_by, now)


def ask_export(
    connection: Connection, wanted: Wanted, *, asked_by: str, tenant: str | None = None, now: datetime
) -> UUID:
    """Have all entries that fit written to a CSV file. `tenant` is whose job it is, None nobody's in particular."""
    given = {name: value for name, value in asdict(wanted).items() if value is not None}
    return jobs.create(connection, kind=EXPORT, parameters=given, asked_by=asked_by, tenant=tenant, now=now)


def ask_erasure(
    connection: Connection, address: str, keys: RecipientKeys, vault: Vault, *, asked_by: str, now: datetime
) -> UUID:
    """Have an address taken out of everything that is kept. In the job itself it is encrypted."""
    normalized = normalize(address)
    sealed = vault.seal({"address": normalized}).decode()
    parameters = {"key": keys.of_address(normalized), jobs.SEALED: sealed}
    return jobs.create(connection, kind=ERASE, parameters=parameters, asked_by=asked_by, now=now)


def first_line(content: bytes) -> bytes:
    """The first line of a file."""
    beginning = content[:_PART_BYTES].splitlines()
    return beginning[0] if beginning else b""


def _ask_import(
    connection: Connection,
    form: str,
    content: bytes,
    defaults: Defaults,
    wishes: Mapping[str, bool],
    asked_by: str,
    now: datetime,
) -> UUID:
    parameters = {
        "format": form,
        "lines": content.count(b"\n") + (not content.endswith(b"\n")),
        "types": sorted(defaults.types),
        "reason": defaults.reason,
        "tenant": defaults.tenant,
        "only_tenant": defaults.only_tenant,
        **wishes,
    }
    job_id = jobs.create(
        connection, kind=IMPORT, parameters=parameters, asked_by=asked_by, tenant=defaults.only_tenant, now=now
    )
    for part, piece in enumerate(_pieces(content)):
        job_files.write(connection, job_id, job_files.INPUT, part, piece)
    return job_id


def _pieces(content: bytes) -> Iterator[bytes]:
    """The content in parts that end where a line does."""
    begin = 0
    while begin < len(content):
        end = content.find(b"\n", begin + _PART_BYTES) + 1 or len(content)
        yield content[begin:end]
        begin = end
