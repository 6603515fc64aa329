"""What requests and answers about suppressions are made of."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, fields, validate

from api.core.errors import invalid
from api.core.fields import Instant, PageQuery, Strict, asked, identifier, instant, text
from api.resources.events import Event
from shared import targets
from shared.addresses import normalize
from shared.suppression import csv_files
from shared.suppression.explain import Case, Happened
from shared.suppression.history import Action
from shared.suppression.queries import Wanted
from shared.suppression.recipient_hashes import RecipientKeys
from shared.suppression.store import Entry
from shared.targets import Target, TargetError
from shared.vocabulary import Classification, MailType, SuppressionOrigin, SuppressionReason

_ACTIVE = {"true": True, "false": False, "any": None}


def for_tenant(description: str, **kwargs: Any) -> fields.String:
    """A tenant in a request; '' is meant."""
    length = validate.Length(max=csv_files.LONGEST_TENANT)
    return fields.String(validate=length, metadata={"description": description}, **kwargs)


def remark() -> fields.String:
    """A note in a request."""
    return fields.String(validate=validate.Length(max=csv_files.LONGEST_NOTE), metadata={"description": "For people."})


class Filters(Strict):
    """Which entries: all that is given must hold."""

    address = asked("About this address; or `@` and a domain.")
    domain = asked("About this domain, or about an address of it.")
    reason = fields.Enum(SuppressionReason, by_value=True)
    origin = fields.Enum(SuppressionOrigin, by_value=True, metadata={"description": "Who says so."})
    tenant = for_tenant("Of this tenant; empty for those that hold for all.")
    source = asked("From events or the list of this source.")
    type = fields.Enum(MailType, by_value=True)
    active = fields.String(
        load_default="true",
        validate=validate.OneOf(list(_ACTIVE)),
        metadata={"description": "Those that suppress now (`true`), those whose time is over (`false`), or `any`."},
    )


class SuppressionQuery(PageQuery, Filters):
    """Which suppressions, and which part of the list."""


class Suppression(Schema):
    """An entry. Several may stand side by side: one for each tenant, reason and origin."""

    address = text("Null where it is about a domain, or was erased.")
    domain = text("Null where it is about an address.")
    reason = fields.String(metadata={"enum": list(map(str, SuppressionReason))})
    classification = text("Of the failure that was the reason.")
    types = fields.List(fields.String(), metadata={"description": "Which mail is suppressed."})
    tenant = text("Null: it holds for all.")
    source = text("Where it comes from, if from events or a provider's list.")
    origin = fields.String(metadata={"enum": list(map(str, SuppressionOrigin)), "description": "Who says so."})
    since = Instant(metadata={"description": "When the reason arose."})
    created_at = Instant()
    expires_at = instant("Null: for good.")
    evidence_event_id = identifier("The event it follows from.", allow_none=True)
    level = fields.Integer(metadata={"description": "For the how manyeth time, where that makes it longer."})
    actor = text("The person, or the key, that asked for it.")
    note = text()


class NewSuppression(Strict):
    """Whom not to write to: an address or a domain."""

    address = asked("One address, in any form; or `@` and a domain.")
    domain = asked("All addresses of a domain; those of its subdomains are others.")
    types = fields.List(
        fields.Enum(MailType, by_value=True),
        load_default=list(MailType),
        validate=validate.Length(min=1),
        metadata={"description": "Which mail; all of it, if not given."},
    )
    tenant = for_tenant("For this tenant only.", load_default="")
    reason = fields.Enum(SuppressionReason, by_value=True, load_default=SuppressionReason.MANUAL)
    classification = fields.Enum(Classification, by_value=True)
    expires_at = instant("Until then; for good, if null or not given.")
    note = remark()


class LiftQuery(Strict):
    """What is to be lifted; everything, if nothing is given."""

    reason = fields.Enum(SuppressionReason, by_value=True, metadata={"description": "Only this reason."})
    tenant = for_tenant("Only of this tenant; empty for those that hold for all.")
    note = remark()


class DomainLiftQuery(LiftQuery):
    """The same of a domain."""

    domain = asked("What is about this domain itself.", required=True)


class Lifted(Schema):
    """What was lifted, and whether something else still suppresses it (its domain, another reason)."""

    lifted = fields.List(fields.Nested(Suppression))
    suppressed = fields.Boolean()


class Step(Schema):
    """One thing that happened."""

    at = Instant()
    action = fields.String(metadata={"enum": list(map(str, Action))})
    address = text()
    domain = text()
    reason = fields.String()
    types = fields.List(fields.String())
    tenant = text()
    classification = text()
    origin = fields.String()
    source = text()
    since = instant()
    expires_at = instant()
    level = fields.Integer()
    event_id = identifier("What it was for.", allow_none=True)
    actor = text()
    note = text()


class Lift(Schema):
    """A lift: what happened or was received before it suppresses no more."""

    lifted_at = Instant()
    tenant = text("Null: of every tenant.")
    reason = text("Null: of every reason.")
    by_event = fields.Boolean(metadata={"description": "The recipient subscribed again; otherwise a person lifted."})


class Why(Schema):
    """Why something is suppressed, or is not."""

    address = text()
    domain = text()
    suppressed = fields.Boolean()
    entries = fields.List(fields.Nested(Suppression), metadata={"description": "What suppresses it now."})
    ended = fields.List(fields.Nested(Suppression), metadata={"description": "What did, until its time was over."})
    history = fields.List(fields.Nested(Step), metadata={"description": "The oldest first."})
    lifts = fields.List(fields.Nested(Lift), metadata={"description": "All that are remembered."})
    events = fields.List(
        fields.Nested(Event), metadata={"description": "The evidence, in the order in which it happened."}
    )


def wanted(query: Mapping[str, Any], keys: RecipientKeys) -> Wanted:
    """What filters ask for."""
    address, domain = query.get("address"), query.get("domain")
    return Wanted(
        key=None if address is None else keys.of(targets.named(address)),
        domain=None if domain is None else normalize(f"@{domain.removeprefix('@')}").removeprefix("@"),
        active=_ACTIVE[query["active"]],
        **{name: query.get(name) for name in ("reason", "origin", "tenant", "source", "type")},
    )


def given(body: Mapping[str, Any]) -> Target:
    """Whom a body is about. Raises ProblemError (422)."""
    address, domain = body.get("address"), body.get("domain")
    if (address is None) == (domain is None):
        raise invalid({"address": ["Give either an address or a domain."]})
    try:
        return targets.read(address) if address is not None else targets.read_domain(domain or "")
    except TargetError as error:
        raise invalid({"address" if address is not None else "domain": [str(error)]}) from None


def shown(entry: Entry) -> dict[str, Any]:
    """An entry as it is answered."""
    return {**entry._asdict(), "tenant": entry.tenant or None}


def told(case: Case) -> dict[str, Any]:
    """A case as it is answered."""
    return {
        "address": case.target.address,
        "domain": case.target.domain,
        "suppressed": case.is_suppressed,
        "entries": [shown(entry) for entry in case.entries],
        "ended": [shown(entry) for entry in case.ended],
        "history": [_step(happened) for happened in case.history],
        "lifts": case.lifts,
        "events": case.events,
    }


def _step(happened: Happened) -> dict[str, Any]:
    step, about = happened.step, happened.about
    values = {name: getattr(step, name) for name in Step().fields if name not in ("address", "domain")}
    return {**values, "tenant": step.tenant or None, "address": about.address, "domain": about.domain}
