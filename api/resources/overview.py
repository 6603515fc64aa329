"""Statistics for people, the status of the installation, its checks and its settings."""

from pathlib import Path
from typing import Any, ClassVar

from marshmallow import Schema, fields

from api.core.auth import TenantAccess
from api.core.errors import invalid
from api.core.fields import Instant, Strict, word
from api.core.resource import Resource, answers, takes
from shared.auth.keys import Scope
from shared.counters import series
from shared.counters.series import Bucket, By, Measure
from shared.errors import InvalidFieldError
from shared.operations import doctor, stats, status
from shared.operations.configuration import describe_settings
from shared.vocabulary import AlertKind, RefusalReason, Severity

_PERIODS = {"last_hour": Bucket.MINUTE, "last_day": Bucket.HOUR}
"""60 minutes and 24 hours, as far as a series of this bucket reaches back."""


class RecentEvents(Schema):
    """Events by type since a time, as in the series of events."""

    since = Instant()
    by_type = fields.Dict(keys=fields.String(), values=fields.Integer())


class Statistics(Schema):
    """The figures that the console shows."""

    receipts = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "Unprocessed receipts by state."},
    )
    oldest_pending_age_seconds = fields.Float()
    sources = fields.Integer()
    events = fields.Dict(keys=fields.String(), values=fields.Nested(RecentEvents))


class Overview(Resource):
    """Statistics for people."""

    rule = "/v1/stats"
    tenancy = TenantAccess.CLOSED

    @answers(200, Statistics)
    def get(self) -> dict[str, Any]:
        """Show the numbers of waiting receipts, sources and recent events."""
        with self.deps.reading.connect() as connection:
            queue = stats.get_receipt_backlog(connection)
            recent = {
                name: series.read(connection, Measure.EVENTS, by=By.TYPE, bucket=bucket)
                for name, bucket in _PERIODS.items()
            }
        return {
            "receipts": {"pending": queue.pending, **queue.parked},
            "oldest_pending_age_seconds": queue.oldest_pending_age_seconds,
            "sources": queue.sources,
            "events": {
                name: {
                    "since": found.buckets[0],
                    "by_type": {kind: sum(values) for kind, values in found.values.items()},
                }
                for name, found in recent.items()
            },
        }


class SeriesQuery(Strict):
    """What to count, how to divide it, and for which time."""

    measure = fields.Enum(
        Measure, by_value=True, required=True, metadata={"description": "`bounced` includes what the provider gave up."}
    )
    by = fields.Enum(
        By,
        by_value=True,
        load_default=By.NONE,
        metadata={
            "description": "`outcome`: what became of messages; `type`: the event's type or the reason; `source_type`:"
            " both, as `source/type`."
        },
    )
    bucket = fields.Enum(
        Bucket,
        by_value=True,
        load_default=Bucket.HOUR,
        metadata={"description": "Minutes of the last two hours, hours of eight days, or days of 400 days, in UTC."},
    )
    since = Instant(metadata={"description": "Default: 60 minutes, 24 hours or 30 days before `until`."})
    until = Instant(metadata={"description": "Only buckets that begin before this time; default: now."})


class NamedSeries(Schema):
    """The values of one series."""

    name = fields.String()
    values = fields.List(fields.Integer(), metadata={"description": "One for each bucket."})


class SeriesOfBuckets(Schema):
    """A measure over time."""

    buckets = fields.List(Instant(), metadata={"description": "When each bucket begins."})
    series = fields.List(fields.Nested(NamedSeries), metadata={"description": "By name; without division only one."})


class Figures(Resource):
    """A measure over time."""

    rule = "/v1/stats/series"
    tenancy = TenantAccess.CLOSED

    @takes(SeriesQuery, location="query")
    @answers(200, SeriesOfBuckets)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """Count something over time: what was received, happened to messages, or was delivered.

        An event counts at the provider's time. Events older than a week, and reprocessed ones, are not counted.
        """
        try:
            with self.deps.reading.connect() as connection:
                found = series.read(connection, **query)
        except InvalidFieldError as error:
            raise invalid({error.field: [str(error)]}) from None
        named = [{"name": name, "values": values} for name, values in found.values.items()]
        return {"buckets": found.buckets, "series": named}


class StatusProblem(Schema):
    """Something that needs a person."""

    about = fields.String(required=True)
    found = fields.String(required=True)
    mend = fields.String(required=True, metadata={"description": "What to do, or the command that helps."})


class StatusRole(Schema):
    """A kind of process."""

    role = fields.String(required=True, metadata={"enum": list(stats.ROLES)})
    last_activity_at = Instant(required=True, allow_none=True)
    absent = fields.Boolean(required=True, metadata={"description": "Whether it has not worked for a minute."})


class StatusStage(Schema):
    """What waits, or has ended, at one stage."""

    stage = fields.String(required=True, metadata={"enum": list(status.STAGES)})
    count = fields.Integer(required=True)
    oldest_age_seconds = fields.Float(required=True, allow_none=True)
    recent = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "How many became dead or failed in the last day; null for what only waits."},
    )


class StatusAlert(Schema):
    """An alert that fires."""

    id = fields.UUID(required=True)
    rule = fields.String(required=True)
    kind = word(AlertKind, required=True)
    severity = fields.String(required=True, metadata={"enum": [str(severity) for severity in Severity]})
    summary = fields.String(required=True)
    started_at = Instant(required=True)
    acknowledged_at = Instant(required=True, allow_none=True)
    next_step = fields.String(required=True)


class StatusSource(Schema):
    """A source and what it received last."""

    source = fields.String(required=True)
    provider = fields.String(required=True)
    created_at = Instant(required=True)
    last_event_at = Instant(required=True, allow_none=True)
    last_refusal_at = Instant(
        required=True, allow_none=True, metadata={"description": "Of the newest 5,000 refusals of all sources."}
    )
    last_refusal_reason = word(RefusalReason, required=True, allow_none=True)
    set_aside_last_day = fields.Integer(required=True)
    problem = fields.String(required=True, allow_none=True, metadata={"description": "Why it cannot be used."})


class StatusBroker(Schema):
    """The broker, as workers find it."""

    up = fields.Boolean(required=True)
    problem = fields.String(required=True, allow_none=True)


class StatusDatabase(Schema):
    """The database."""

    version = fields.String(required=True)
    revision = fields.String(required=True)
    size_bytes = fields.Integer(required=True)
    partition_weeks_ahead = fields.Integer(required=True)
    oldest_transaction_age_seconds = fields.Float(required=True)
    change_feed_lag_seconds = fields.Float(required=True)


class Status(Schema):
    """The status of the installation."""

    state = fields.String(required=True, metadata={"enum": ["ok", "attention"]})
    at = Instant(required=True)
    problems = fields.List(
        fields.Nested(StatusProblem), required=True, metadata={"description": "What needs a person, worst first."}
    )
    roles = fields.List(fields.Nested(StatusRole), required=True)
    stages = fields.List(fields.Nested(StatusStage), required=True)
    alerts = fields.List(fields.Nested(StatusAlert), required=True)
    broker = fields.Nested(StatusBroker, required=True)
    database = fields.Nested(StatusDatabase, required=True)
    sources = fields.List(fields.Nested(StatusSource), required=True)


class InstallationStatus(Resource):
    """The status of the installation."""

    rule = "/v1/status"
    tenancy = TenantAccess.CLOSED

    @answers(200, Status)
    def get(self) -> dict[str, Any]:
        """Show each stage, process and source, and what needs a person."""
        with self.deps.reading.connect() as connection:
            return status.read(connection, self.deps.vault)


class CheckFinding(Schema):
    """Something that a check found."""

    check = fields.String(attribute="about")
    found = fields.String()
    mend = fields.String(metadata={"description": "What to do, or the command that helps."})


class Examination(Schema):
    """The checks that were made, and what they found."""

    checks = fields.List(fields.String())
    findings = fields.List(fields.Nested(CheckFinding))


class Doctor(Resource):
    """Checks of the installation."""

    rule = "/v1/doctor"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"GET": Scope.ADMIN}

    @answers(200, Examination)
    def get(self) -> dict[str, Any]:
        """Check the database, the broker, and this machine as `tidings doctor` does. It may take some seconds."""
        installation = doctor.Installation(settings=self.deps.settings, data=Path.cwd())
        made, problems = doctor.examine(installation, self.deps.engine)
        return {"checks": made, "findings": problems}


class SettingsInEffect(Schema):
    """The settings of the process that answers."""

    settings = fields.Dict(
        keys=fields.String(), metadata={"description": "By the names of their variables; secrets are masked."}
    )


class EffectiveSettings(Resource):
    """The settings in effect."""

    rule = "/v1/settings"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"GET": Scope.ADMIN}

    @answers(200, SettingsInEffect)
    def get(self) -> dict[str, Any]:
        """Show the settings in effect; secrets are masked."""
        return {"settings": describe_settings(self.deps.settings)}


RESOURCES = (Overview, Figures, InstallationStatus, Doctor, EffectiveSettings)
