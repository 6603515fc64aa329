"""The suppression list as a file: imported and exported, by jobs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from flask import request
from marshmallow import fields

from api.core.auth import TenantAccess
from api.core.errors import ProblemError, invalid
from api.core.fields import Strict, asked
from api.core.resource import Resource, answers, describes, takes
from api.resources.jobs import Job, queued
from api.resources.suppression_fields import Filters, for_tenant, wanted
from shared.doorbell import JOBS
from shared.jobs.store import Job as JobRow
from shared.suppression import csv_files
from shared.suppression import jobs as suppression_jobs
from shared.suppression.csv_files import Defaults, LineError, ListError
from shared.vocabulary import ALL_MAIL, SuppressionReason

_MOST_BYTES = 64 << 20
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


class ImportQuery(Strict):
    """What holds where a line says nothing."""

    types = asked("Separated by commas; all, if not given.")
    tenant = for_tenant("For all, if not given.", load_default="")
    reason = fields.Enum(SuppressionReason, by_value=True, load_default=SuppressionReason.MANUAL)
    skip_bad_lines = fields.Boolean(
        load_default=False,
        metadata={"description": "Import the others. If not, one line that cannot be used stops all of it."},
    )
    replace = fields.Boolean(
        load_default=False,
        metadata={
            "description": "Let a line take the place of what imports said of the same before. If not, that stays as"
            " wide as it is: for the mail of both, until the later end."
        },
    )


class Imports(Resource):
    """Files to be imported."""

    rule = "/v1/suppressions/import"
    tenancy = TenantAccess.OWN
    most_bytes: ClassVar = {"POST": _MOST_BYTES}

    @takes(ImportQuery, location="query")
    @describes(requestBody=_BODY)
    @answers(202, Job)
    def post(self, query: dict[str, Any]) -> tuple[JobRow, int, dict[str, str]]:
        """Import a list: all of it or nothing. CSV with a header, or JSON with the same names; at most 64 MiB.

        Columns: `address` (or `email`, `recipient`) or `domain`, and if you like `types` (with | between them),
        `reason`, `tenant`, `expires_at`, `note`, `classification`; others are passed over and named in the report.
        Values are separated by commas, semicolons or tabs. The job's report tells which lines cannot be used and
        why, up to 20 of them; its file lists all.
        """
        try:
            types = csv_files.read_types(query.get("types", "")) or ALL_MAIL
        except LineError as error:
            raise invalid({"types": [str(error)]}) from None
        defaults = Defaults(
            tenant=self.own_tenant(query["tenant"]) or "",
            reason=query["reason"],
            types=types,
            only_tenant=self.caller.tenant,
        )
        wishes = {name: query[name] for name in ("skip_bad_lines", "replace")}
        wishes |= {"asked_by": self.caller.name, "now": datetime.now(UTC)}
        ask = _read()  # before the transaction: whoever sends slowly holds no connection
        with self.deps.engine.begin() as connection, _complaints():
            job_id = ask(connection, defaults=defaults, **wishes)
            self.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.IMPORT)
            answer = queued(connection, job_id)
        self.deps.doorbell.ring(JOBS)
        return answer


class Exports(Resource):
    """Files to be made."""

    rule = "/v1/suppressions/export"
    tenancy = TenantAccess.OWN

    @takes(Filters)
    @answers(202, Job)
    def post(self, body: dict[str, Any]) -> tuple[JobRow, int, dict[str, str]]:
        """Export what fits, as CSV that can be imported again. The job's file has it when the job is done.

        What a spreadsheet would take for a formula has an apostrophe before it, which importing takes off again.
        """
        filters = wanted({**body, "tenant": self.own_tenant(body.get("tenant"))}, self.deps.keys)
        with self.deps.engine.begin() as connection:
            job_id = suppression_jobs.ask_export(
                connection,
                filters,
                asked_by=self.caller.name,
                tenant=self.caller.tenant,
                now=datetime.now(UTC),
            )
            self.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.EXPORT)
            answer = queued(connection, job_id)
        self.deps.doorbell.ring(JOBS)
        return answer


def _read() -> Callable[..., UUID]:
    """What was sent, as the call that asks for its import. Raises ProblemError."""
    if request.mimetype in _CSV:
        return partial(suppression_jobs.ask_import_of_csv, content=request.get_data())
    if request.mimetype != _JSON:
        raise ProblemError(415, "Send the list as text/csv, or as application/json.")
    try:
        rows = msgspec.json.decode(request.get_data(), type=_Rows).rows
    except msgspec.ValidationError as error:
        raise invalid({"rows": [f"{error}."]}) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProblemError(400, f"The body is no JSON: {error}.") from None
    return partial(suppression_jobs.ask_import_of_rows, rows=rows)


@contextmanager
def _complaints() -> Iterator[None]:
    try:
        yield
    except ListError as error:
        raise invalid({"body": [str(error)]}) from None


RESOURCES = (Imports, Exports)
