"""Schemas of the rules file and of the API's alert rules.

Their messages say what was expected. `shared.rules.document` adds where, what was found and what may have been meant.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields, post_dump, post_load, validate, validates_schema

from shared.alerts.policy import AlertRule
from shared.alerts.rules import CLASSES, AnnouncedRule, Rate, usual_rate
from shared.suppression.policy import NEVER, SuppressionPolicy, Tenants
from shared.vocabulary import AlertKind, Classification, EventType, MailType, Per

MAX_ALERT_RULES: Final = 200
FOR_GOOD: Final = "for good"
UNKNOWN_KEY: Final = "unknown key; "
"""The beginning of a message about a key. Other messages are about its value."""

_MAX_COUNT: Final = 1_000_000_000
_MAX_DAYS: Final = 36_500
_MAX_ITEMS: Final = 1000
_WEEK_MINUTES: Final = 7 * 24 * 60  # counts are kept for a day more
_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")
# In Python a dollar sign also matches before a final line feed; the lookahead excludes it, and JavaScript agrees.
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?!\n)$"


def expected(what: str) -> dict[str, Any]:
    """Return the messages of a field: the same one for everything that can be wrong with it."""
    keys = ("required", "null", "invalid", "type", "special", "too_large", "unknown")
    return dict.fromkeys(keys, f"expected {what}")


class Flag(fields.Boolean):
    """True or false; not a word or a number that means it."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> bool:  # noqa: ARG002
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class Number(fields.Float):
    """A number; not a text that looks like one. Whole numbers stay integers."""

    def _format_num(self, value: Any) -> float:
        if isinstance(value, str):
            raise TypeError
        number = float(value)
        return int(number) if number.is_integer() else number


class Percentage(Number):
    """A share: `5 %`, or the number alone."""

    def _format_num(self, value: Any) -> float:
        match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
        return super()._format_num(float(match[1]) if match else value)


class Days(fields.Field[Any]):
    """How long a suppression lasts: a number of days, or None for good."""

    def _serialize(self, value: int | None, *args: Any, **kwargs: Any) -> int | str:  # noqa: ARG002
        return FOR_GOOD if value is None else value

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> int | None:  # noqa: ARG002
        if value == FOR_GOOD:
            return None
        if type(value) is not int or not 1 <= value <= _MAX_DAYS:
            raise self.make_error("invalid")
        return value


class LimitedList(fields.List[Any]):
    """A list. Its length is checked before its items, so that a list that is too long is one error, not thousands."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, list):
            self._validate(value)
        return super()._deserialize(value, *args, **kwargs)


class UniqueList(LimitedList):
    """A list without repetitions, loaded as a frozenset and dumped in order."""

    def _serialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._serialize(sorted(value), *args, **kwargs)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        items = super()._deserialize(value, *args, **kwargs)
        repeated = [position for position, item in enumerate(items) if item in items[:position]]
        if repeated:
            raise ValidationError({position: ["expected each item only once"] for position in repeated})
        return frozenset(items)


def whole(lowest: int, highest: int) -> fields.Integer:
    """Return a field for a whole number within limits; not a text that looks like one."""
    messages = expected(f"a whole number from {lowest} to {highest}")
    limits = validate.Range(lowest, highest, error=messages["invalid"])
    return fields.Integer(strict=True, validate=limits, error_messages=messages)


def number(lowest: float, highest: float) -> Number:
    """Return a field for a number within limits."""
    messages = expected(f"a number from {lowest:g} to {highest:g}")
    return Number(validate=validate.Range(lowest, highest, error=messages["invalid"]), error_messages=messages)


def percentage() -> Percentage:
    """Return a field for a share above 0 %."""
    messages = expected("a share such as 5 %, above 0 % and up to 100 %")
    limits = validate.Range(0, 100, min_inclusive=False, error=messages["invalid"])
    text = "^[0-9]{1,3}(\\.[0-9]{1,6})? ?%$"
    described = {"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": text, "examples": [5, "5 %"]}
    return Percentage(validate=limits, error_messages=messages, metadata=described)


def one_of(words: type[StrEnum], *, excluded: frozenset[Any] = frozenset(), required: bool = False) -> fields.Enum[Any]:
    """Return a field for one word of a vocabulary."""
    choices = [word for word in words if word not in excluded]
    messages = expected(f"one of {', '.join(choices)}")
    return fields.Enum(
        words,
        by_value=fields.String(error_messages=messages),
        validate=validate.OneOf(choices, error=messages["invalid"]),
        error_messages=messages,
        required=required,
    )


def list_of(
    items: fields.Field[Any],
    *,
    min_items: int = 0,
    max_items: int = _MAX_ITEMS,
    unique: bool = True,
    required: bool = False,
) -> fields.List[Any]:
    """Return a field for a list."""
    limits = [validate.Length(max=max_items, error=f"expected at most {max_items} items")]
    if min_items:
        limits.append(validate.Length(min=min_items, error="expected at least one item"))
    cls = UniqueList if unique else LimitedList
    return cls(
        items,
        validate=limits,
        error_messages=expected("a list"),
        required=required,
        metadata={"uniqueItems": True} if unique else {},
    )


def flag() -> Flag:
    """Return a field for true or false."""
    return Flag(error_messages=expected("true or false"))


def name(*, required: bool = False) -> fields.String:
    """Return a field for a name that can be part of a URL."""
    messages = expected("a name of up to 64 letters, digits, dots, dashes and underscores")
    pattern = validate.Regexp(_NAME, error=messages["invalid"])
    return fields.String(validate=pattern, error_messages=messages, required=required)


def days() -> Days:
    """Return a field for how long a suppression lasts."""
    return Days(error_messages=expected(f'a whole number of days from 1 to {_MAX_DAYS}, or "{FOR_GOOD}"'))


class RulesSchema(Schema):
    """A mapping whose unknown keys are refused with the names of the known ones."""

    class Meta:
        """Unknown keys are refused."""

        unknown = RAISE

    error_messages = {"type": "expected a mapping"}  # noqa: RUF012 - as its parent declares it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.error_messages["unknown"] = f"{UNKNOWN_KEY}expected one of {', '.join(self.fields)}"


class SuppressionRuleSchema(RulesSchema):
    """What every rule of the section `suppression` has."""

    enabled = flag()
    types = list_of(one_of(MailType), min_items=1)
    tenants = one_of(Tenants)


class ConsequenceSchema(SuppressionRuleSchema):
    """The rule about one kind of event."""

    days = days()


class HardBounceSchema(ConsequenceSchema):
    """The rule about permanent failures. It cannot name the sender's own problems, which suppress nobody."""

    classifications = list_of(one_of(Classification, excluded=NEVER), min_items=1)


class SoftBounceSchema(SuppressionRuleSchema):
    """The rule about temporary failures. `days` has one item for the first time, the second, and so on."""

    classifications = list_of(one_of(Classification, excluded=NEVER), min_items=1)
    messages = whole(1, 1000)
    within_days = whole(1, 365)
    days = list_of(days(), min_items=1, max_items=20, unique=False)


class SuppressionSchema(RulesSchema):
    """The section `suppression`. A rule or a key that is missing has its default."""

    hard_bounce = fields.Nested(HardBounceSchema, error_messages=expected("a mapping"))
    complaint = fields.Nested(ConsequenceSchema, error_messages=expected("a mapping"))
    unsubscribe = fields.Nested(ConsequenceSchema, error_messages=expected("a mapping"))
    soft_bounce = fields.Nested(SoftBounceSchema, error_messages=expected("a mapping"))

    @post_load
    def make(self, data: dict[str, dict[str, Any]], **_: Any) -> SuppressionPolicy:
        """Return the policy."""
        if "days" in data.get("soft_bounce", {}):
            data["soft_bounce"]["days"] = tuple(data["soft_bounce"]["days"])
        policy = SuppressionPolicy()
        return replace(policy, **{key: replace(getattr(policy, key), **values) for key, values in data.items()})


def _thresholds(field: fields.Field[Any]) -> dict[str, fields.Field[Any]]:
    return {"warning": field, "critical": field}


_SOURCES: Final = {"sources": list_of(name())}
_WINDOW: Final = {"window_minutes": whole(1, _WEEK_MINUTES)}
_PER: Final = {"per": one_of(Per)}
_COUNTS: Final = _thresholds(whole(1, _MAX_COUNT))
_SECONDS: Final = _thresholds(whole(10, 7 * 24 * 3600))

ALERT_FIELDS: Final[Mapping[AlertKind, Mapping[str, fields.Field[Any]]]] = {
    AlertKind.RATE: {
        "rate": one_of(Rate, required=True),
        **_PER,
        **_SOURCES,
        **_WINDOW,
        "minimum_volume": whole(1, _MAX_COUNT),
        "minimum_events": whole(1, _MAX_COUNT),
        **_thresholds(percentage()),
    },
    AlertKind.EVENT: {
        "types": list_of(one_of(EventType), min_items=1, required=True),
        **_PER,
        **_SOURCES,
        **_WINDOW,
        **_COUNTS,
    },
    AlertKind.SILENCE: {**_SOURCES, "minimum_events": whole(1, _MAX_COUNT), **_thresholds(whole(5, _WEEK_MINUTES))},
    AlertKind.ANNOUNCED: {
        **_SOURCES,
        "after_minutes": whole(1, _WEEK_MINUTES),
        "within_hours": whole(1, 30 * 24),
        **_thresholds(whole(1, 1000)),
    },
    AlertKind.VERIFICATION_FAILURES: {**_SOURCES, **_WINDOW, "factor": number(1, 10_000), **_COUNTS},
    AlertKind.PENDING_AGE: _SECONDS,
    AlertKind.UNVERIFIED_AGE: {**_SOURCES, **_SECONDS},
    AlertKind.DEAD_RECEIPTS: {**_SOURCES, **_WINDOW, **_COUNTS},
    AlertKind.MASS_FAILURES: {**_SOURCES, **_WINDOW, **_COUNTS},
    AlertKind.SET_ASIDE: {**_SOURCES, **_WINDOW, **_COUNTS},
    AlertKind.RECONCILED: {**_SOURCES, **_WINDOW, **_COUNTS},
    AlertKind.RECONCILIATION_FAILURES: {**_SOURCES, **_thresholds(whole(1, 1000))},
    AlertKind.GIVEN_UP: {**_SOURCES, **_WINDOW, **_COUNTS},
    AlertKind.DEAD_DELIVERIES: {**_WINDOW, **_COUNTS},
    AlertKind.SUBSCRIPTION_DISABLED: _COUNTS,
    AlertKind.RULES_REFUSED: _COUNTS,
    AlertKind.BROKER_UNUSABLE: _COUNTS,
}
"""The fields of each kind of alert rule, besides those of every kind."""


class AlertRuleSchema(RulesSchema):
    """An alert rule of one kind. A field that is missing has the kind's default."""

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> AlertRule:
        """Return the rule. Raises ValidationError if its fields contradict each other."""
        kind = AlertKind(data.pop("kind"))
        if "warning" in data or "critical" in data:
            data = {"warning": None, "critical": None, **data}  # setting one threshold drops the other's default
        if kind is AlertKind.RATE:
            rule: AlertRule = replace(usual_rate(data["name"], data["rate"]), **data)
        else:
            rule = CLASSES[kind](**data)
        if rule.warning is not None and rule.critical is not None and rule.critical <= rule.warning:
            raise ValidationError({"critical": [f"expected more than the warning of {rule.warning:g}"]})
        if isinstance(rule, AnnouncedRule) and rule.after_minutes >= rule.within_hours * 60:
            raise ValidationError(
                {"after_minutes": [f"expected less than the {rule.within_hours * 60} minutes of within_hours"]}
            )
        return rule

    @post_dump
    def drop_unset(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Leave out the fields that are not set, so that loading the result makes the same rule."""
        return {key: value for key, value in data.items() if value is not None and value != []}


ALERT_SCHEMAS: Final[Mapping[AlertKind, Schema]] = {
    kind: AlertRuleSchema.from_dict(
        {
            "name": name(required=True),
            "kind": fields.String(validate=validate.Equal(kind), required=True, metadata={"enum": [str(kind)]}),
            **ALERT_FIELDS[kind],
            "enabled": flag(),
            "resolve_after_minutes": whole(0, 24 * 60),
            "cool_down_minutes": whole(0, _WEEK_MINUTES),
        },
        name=CLASSES[kind].__name__,
    )()
    for kind in AlertKind
}


class AlertRuleField(fields.Field[AlertRule]):
    """An alert rule. Its kind decides which fields it can have."""

    def _serialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        return ALERT_SCHEMAS[value.kind].dump(value)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        kind = value.get("kind")
        if not isinstance(kind, str) or kind not in set(AlertKind):
            raise ValidationError({"kind": [f"expected one of {', '.join(AlertKind)}"]})
        return ALERT_SCHEMAS[AlertKind(kind)].load(value)


def alert_rule() -> AlertRuleField:
    """Return a field for an alert rule."""
    return AlertRuleField(error_messages=expected("a mapping"))


class RulesFileSchema(RulesSchema):
    """The rules file. A section that is missing has its defaults."""

    suppression = fields.Nested(SuppressionSchema, error_messages=expected("a mapping"))
    alerts = list_of(alert_rule(), max_items=MAX_ALERT_RULES, unique=False)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_names(self, _data: Any, original: Any, **_: Any) -> None:
        """Refuse two alert rules of one name."""
        alerts = original.get("alerts") if isinstance(original, dict) else None
        first: dict[str, int] = {}
        errors: dict[int, dict[str, list[str]]] = {}
        for position, rule in enumerate(alerts if isinstance(alerts, list) else []):
            name = rule.get("name") if isinstance(rule, dict) else None
            if isinstance(name, str) and first.setdefault(name, position) != position:
                errors[position] = {"name": [f"expected a name that alerts[{first[name]}] does not have"]}
        if errors:
            raise ValidationError({"alerts": errors})
