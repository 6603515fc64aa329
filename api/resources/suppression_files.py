"""Imports and exports of the suppression list, done by jobs."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from flask import request
from marshmallow import fields, validate

from api.core.auth import TenantAccess
from api.core.errors import ProblemError, invalid
from api.core.fields import Strict, query_text
from api.core.resource import Resource, answers, describes, invalid_json, require_single_names, takes
from api.core.source_filter import require_sources
from api.resources.jobs import Job, queued
from shared.addresses import normalize, parse_lookup
from shared.broker import JOBS
from shared.errors import InvalidFieldError
from shared.jobs.store import Job as JobRow
from shared.suppression import csv_files
from shared.suppression import jobs as suppression_jobs
from shared.suppression.csv_files import Defaults
from shared.suppression.queries import SuppressionFilters
from shared.suppression.recipient_hashes import RecipientHasher
from shared.vocabulary import ALL_MAIL, MailType, SuppressionOrigin, SuppressionReason

_MAX_BYTES = 64 << 20
_MAX_ROWS = 1_000_000
"""The limit for JSON, whose rows are all in memory at once: an empty row takes 3 bytes of the body, 200 of memory."""
_CSV = ("text/csv", "application/csv", "text/plain")
_JSON = "application/json"

_BODY = {
    "required": True,
    "content": {
        _CSV[0]: {
            "schema": {"type": "string"},
            "example": "address,reason,note\nann@example.com,manual,asked us not to\n",
        },
        _JSON: {
            "schema": {
                "type": "object",
                "required": ["rows"],
                "properties": {
                    "rows": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                name: {"type": ["string", "null"]} for name in csv_files.COLUMNS if name != "types"
                            }
                            | {"types": {"type": "array", "items": {"type": "string"}}},
                        },
                    }
                },
            }
        },
    },
}


class _Rows(msgspec.Struct, forbid_unknown_fields=True):
    rows: Annotated[list[dict[str, str | list[str] | None]], msgspec.Meta(min_length=1)]


class _RowTexts(msgspec.Struct):
    rows: list[msgspec.Raw]


_ACTIVE = {"true": True, "false": False, "any": None}


def tenant_field(description: str, **kwargs: Any) -> fields.String:
    """Return a field for a tenant in a request; '' is a valid value."""
    length = validate.Length(max=csv_files.MAX_TENANT_LENGTH)
    return fields.String(validate=length, metadata={"description": description}, **kwargs)


class Filters(Strict):
    """Which entries; all conditions that are given must hold."""

    address = query_text("Entries of this address; or of `@` and a domain.")
    domain = query_text("Entries for this domain, or for an address at it.")
    reason = fields.Enum(SuppressionReason, by_value=True)
    origin = fields.Enum(SuppressionOrigin, by_value=True, metadata={"description": "What put them on the list."})
    tenant = tenant_field("Entries of this tenant; empty: those for all tenants.")
    source = query_text("Entries from events of this source, or from its provider's list.")
    type = fields.Enum(MailType, by_value=True)
    active = fields.String(
        load_default="true",
        validate=validate.OneOf(list(_ACTIVE)),
        metadata={"description": "Active entries (`true`), expired ones (`false`), or `any`."},
    )


def read_filters(query: Mapping[str, Any], hasher: RecipientHasher) -> SuppressionFilters:
    """Return the filters that a request gives."""
    address, domain = query.get("address"), query.get("domain")
    return SuppressionFilters(
        key=None if address is None else hasher.hash_target(parse_lookup(address)),
        domain=None if domain is None else normalize(f"@{domain.removeprefix('@')}").removeprefix("@"),
        active=_ACTIVE[query["active"]],
        **{name: query.get(name) for name in ("reason", "origin", "tenant", "source", "type")},
    )


class ImportQuery(Strict):
    """Values for what a line leaves empty, and what to do with bad lines and earlier imports."""

    types = query_text("Types of mail, separated by commas; all if not given.")
    tenant = tenant_field("All tenants if not given.", load_default="")
    reason = fields.Enum(SuppressionReason, by_value=True, load_default=SuppressionReason.MANUAL)
    skip_bad_lines = fields.Boolean(
        load_default=False,
        metadata={"description": "Import the good lines. Otherwise one bad line stops the whole import."},
    )
    replace = fields.Boolean(
        load_default=False,
        metadata={
            "description": "Replace the entries of earlier imports. Otherwise such an entry suppresses the mail of"
            " both, until the later end."
        },
    )


class Imports(Resource):
    """Imports of files."""

    rule = "/v1/suppressions/import"
    tenancy = TenantAccess.OWN
    max_body_bytes: ClassVar = {"POST": _MAX_BYTES}

    @takes(ImportQuery, location="query")
    @describes(requestBody=_BODY)
    @answers(202, Job)
    def post(self, query: dict[str, Any], file: bytes | None = None) -> tuple[JobRow, int, dict[str, str]]:
        """Import a whole list, or nothing of it. CSV with a header, or JSON with the same names; at most 64 MiB, and
        of JSON at most a million rows.

        Columns: `address` (or `email`, `recipient`) or `domain`; optionally `types` (separated by |), `reason`,
        `tenant`, `expires_at`, `note`, `classification`. Lists that SendGrid, Postmark, Mailgun, SES, Mailchimp, Brevo
        and Mailjet export are read with their own columns and words. Other columns are ignored and named in the report.
        Commas, semicolons, tabs or vertical bars separate values; the encoding is UTF-8, UTF-16 or Windows-1252. The
        job's report shows up to 20 bad lines and their problems, and the numbers of skipped lines with the reasons; its
        file lists all bad lines. A job that imports nothing fails.
        """
        defaults = Defaults(
            tenant=self.resolve_tenant(query["tenant"]) or "",
            reason=query["reason"],
            types=csv_files.read_types(query.get("types", "")) or ALL_MAIL,
            only_tenant=self.caller.tenant,
        )
        options = {name: query[name] for name in ("skip_bad_lines", "replace")}
        # Before the transaction: a slow sender must not hold a connection. The console has read a form instead.
        create = _read_body() if file is None else partial(suppression_jobs.create_csv_import, content=file)
        with self.deps.engine.begin() as connection:
            try:
                job_id = create(
                    connection, defaults=defaults, **options, asked_by=self.caller.name, now=datetime.now(UTC)
                )
            except InvalidFieldError as error:
                raise invalid({"body": [str(error)]}) from None
            self.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.IMPORT)
            answer = queued(connection, job_id, self.caller)
        self.deps.notifier.notify(JOBS)
        return answer


def _read_body() -> Callable[..., UUID]:
    """Return the call that creates the import of the request's body. Raises ProblemError."""
    if request.mimetype in _CSV:
        return partial(suppression_jobs.create_csv_import, content=request.get_data())
    if request.mimetype != _JSON:
        raise ProblemError(415, "Send the list as text/csv, or as application/json.")
    content = request.get_data()
    if content.count(b"{") > _MAX_ROWS + 1:
        raise invalid({"rows": [f"Must have at most {_MAX_ROWS} entries; send more as CSV."]})
    try:
        msgspec.json.decode(content, type=_Rows)
    except msgspec.ValidationError as error:
        raise invalid({"rows": [f"{error}."]}) from None
    except RecursionError:
        raise invalid({"rows": ["Must not be nested."]}) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise invalid_json(content, error) from None
    # The text of each row, because the job looks for names that a row gives twice: here that would take seconds.
    rows = msgspec.json.decode(content, type=_RowTexts).rows
    if content.count(b"{") > len(rows) + 1:  # the list may be given twice
        require_single_names(content)
    return partial(suppression_jobs.create_row_import, rows=rows)


class Exports(Resource):
    """Exports to files."""

    rule = "/v1/suppressions/export"
    tenancy = TenantAccess.OWN

    @takes(Filters)
    @answers(202, Job)
    def post(self, body: dict[str, Any]) -> tuple[JobRow, int, dict[str, str]]:
        """Export matching entries as CSV that can be imported again. When the job is done, its file has them.

        A value that a spreadsheet would run as a formula is written with an apostrophe, which an import removes again.
        """
        filters = read_filters({**body, "tenant": self.resolve_tenant(body.get("tenant"))}, self.deps.hasher)
        with self.deps.engine.begin() as connection:
            require_sources(connection, self.caller, body)
            job_id = suppression_jobs.create_export(
                connection, filters, asked_by=self.caller.name, tenant=self.caller.tenant, now=datetime.now(UTC)
            )
            self.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.EXPORT)
            answer = queued(connection, job_id, self.caller)
        self.deps.notifier.notify(JOBS)
        return answer


RESOURCES = (Imports, Exports)
