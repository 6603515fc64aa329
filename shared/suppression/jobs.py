"""Creates jobs on the suppression list. The caller commits, then notifies the workers."""

from collections.abc import Mapping, Sequence
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
from shared.suppression.queries import SuppressionFilters
from shared.suppression.recipient_hashes import RecipientHasher

IMPORT: Final = "import_suppressions"
EXPORT: Final = "export_suppressions"
ERASE: Final = "erase"

CSV: Final = "csv"
ROWS: Final = "rows"
PART_BYTES: Final = 1 << 20
_WITHOUT_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def create_csv_import(
    connection: Connection,
    content: bytes,
    defaults: Defaults,
    *,
    skip_bad_lines: bool,
    replace: bool = False,
    asked_by: str,
    now: datetime,
) -> UUID:
    """Create a job that imports a CSV file; return its id. Raises InvalidFieldError where the header cannot be used.

    With `replace` a line replaces the earlier import of the same entry; otherwise that entry keeps its width.
    """
    content = csv_files.to_utf8(content)
    csv_files.read_header(content[:PART_BYTES])
    options = {"skip_bad_lines": skip_bad_lines, "replace": replace}
    return _create_import(connection, CSV, content, defaults, options, asked_by, now)


def create_row_import(
    connection: Connection,
    rows: Sequence[Mapping[str, Any] | msgspec.Raw],
    defaults: Defaults,
    *,
    skip_bad_lines: bool,
    replace: bool = False,
    asked_by: str,
    now: datetime,
) -> UUID:
    """Create a job that imports objects whose fields are the columns of such a file.

    The job refuses a row that gives a name twice, which only the JSON text of the row (`Raw`) can show.
    """
    # In JSON, line breaks stand only between values.
    content = b"".join(msgspec.json.encode(row).translate(_WITHOUT_LINE_BREAKS) + b"\n" for row in rows)
    options = {"skip_bad_lines": skip_bad_lines, "replace": replace}
    return _create_import(connection, ROWS, content, defaults, options, asked_by, now)


def _create_import(
    connection: Connection,
    format_: str,
    content: bytes,
    defaults: Defaults,
    options: Mapping[str, bool],
    asked_by: str,
    now: datetime,
) -> UUID:
    parameters = {
        "format": format_,
        "lines": content.count(b"\n") + (not content.endswith(b"\n")),
        "types": sorted(defaults.types),
        "reason": defaults.reason,
        "tenant": defaults.tenant,
        "only_tenant": defaults.only_tenant,
        **options,
    }
    job_id = jobs.create(
        connection, kind=IMPORT, parameters=parameters, asked_by=asked_by, tenant=defaults.only_tenant, now=now
    )
    part = begin = 0
    while begin < len(content):  # in parts that end where a line does
        end = content.find(b"\n", begin + PART_BYTES) + 1 or len(content)
        job_files.write(connection, job_id, job_files.INPUT, part, content[begin:end])
        part, begin = part + 1, end
    return job_id


def create_export(
    connection: Connection, filters: SuppressionFilters, *, asked_by: str, tenant: str | None = None, now: datetime
) -> UUID:
    """Create a job that exports matching entries to CSV. `tenant` is the tenant that the job belongs to, if any."""
    given = {name: value for name, value in asdict(filters).items() if value is not None}
    return jobs.create(connection, kind=EXPORT, parameters=given, asked_by=asked_by, tenant=tenant, now=now)


def create_erasure(
    connection: Connection, address: str, hasher: RecipientHasher, vault: Vault, *, asked_by: str, now: datetime
) -> UUID:
    """Create a job that erases an address from everything stored. The job keeps the address encrypted."""
    normalized = normalize(address)
    sealed = vault.seal({"address": normalized}).decode()
    parameters = {"key": hasher.hash_address(normalized), jobs.SEALED: sealed}
    return jobs.create(connection, kind=ERASE, parameters=parameters, asked_by=asked_by, now=now)
