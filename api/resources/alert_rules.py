"""Alert rules: shows those of the rules file, and manages those created through the API."""

import dataclasses
import inspect
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import INCLUDE, Schema, fields, post_dump
from sqlalchemy import Connection

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, invalid, not_found, require
from api.core.fields import PageQuery, instant, page_of, text
from api.core.resource import Resource, also_answers, answers, takes
from shared.alerts import store as alerts
from shared.alerts.rules import CLASSES
from shared.auth.keys import Scope
from shared.rules import document, store
from shared.rules.document import RulesError
from shared.rules.schemas import ALERT_SCHEMAS
from shared.rules.store import Overview

Shown = Mapping[str, Any]


class AlertRuleSchema(Schema):
    """An alert rule in a response: the fields of its kind, and these."""

    origin = fields.String(
        metadata={
            "enum": ["file", "api"],
            "description": "`file`: from the rules file, or from the defaults if there is none. Change it there.",
        },
    )
    in_force = fields.Boolean(
        metadata={"description": "False if it is disabled, or if a rule of the file has its name."}
    )
    created_at = instant("Null for a rule of the file.")
    updated_at = instant("Null for a rule of the file.")
    created_by = text("Null for a rule of the file.")

    @post_dump(pass_original=True)
    def add_fields_of_kind(self, data: dict[str, Any], original: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """Add the fields that were dumped by the schema of the rule's kind."""
        return {**original, **data}


class AlertRuleBodySchema(Schema):
    """An alert rule in a body. `describe` adds its fields to the OpenAPI document, and `_check` checks them."""

    class Meta:
        """The fields depend on the kind."""

        unknown = INCLUDE


class NewAlertRuleSchema(AlertRuleBodySchema):
    """An alert rule with its name."""


class AlertRuleChangeSchema(AlertRuleBodySchema):
    """Fields of an alert rule."""


DESCRIPTIONS: Mapping[str, str] = {
    "name": "Letters, digits, dots, dashes and underscores. In a path the name in a body is ignored.",
    "kind": "What the rule watches.",
    "rate": "Which share of the events is evaluated.",
    "types": "The event types that are counted.",
    "per": "Whose events are counted together.",
    "sources": "The names of the sources that the rule covers. Without it: all.",
    "window_minutes": "How far back the rule looks.",
    "minimum_volume": "With fewer events in the window the rate is not evaluated.",
    "minimum_events": "With fewer events the alert does not fire.",
    "after_minutes": "For how long after its submission a message may have no event.",
    "within_hours": "Messages that were submitted earlier are not counted.",
    "factor": "How many times the usual number of failures makes the alert fire.",
    "warning": "From this value on the alert fires. The unit is that of the kind.",
    "critical": "From this value on the alert is critical. More than `warning`.",
    "enabled": "False: the rule is not evaluated, and its alerts are resolved.",
    "resolve_after_minutes": "For how long the value must be below the lower threshold before the alert is resolved.",
    "cool_down_minutes": "For how long after its end the alert fires again only if it is worse than it was.",
}

_READ_ONLY = frozenset(AlertRuleSchema().fields)
"""A body may contain them, so that a rule can be sent back as it was shown. They are ignored."""


def describe(openapi: dict[str, Any], converter: OpenAPIConverter) -> None:
    """Add two schemas for each alert kind to an OpenAPI document: one of responses, one of bodies.

    They have the fields of the kind with their limits and defaults.
    """
    schemas = openapi["components"]["schemas"]
    shown_fields = schemas["AlertRule"]["properties"]
    changeable: dict[str, list[dict[str, Any]]] = {}
    for kind, schema in ALERT_SCHEMAS.items():
        cls = CLASSES[kind]
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        body = converter.schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        for key, field in body["properties"].items():
            field["description"] = DESCRIPTIONS[key]
            # PATCH knows no kind: a field may have what any kind allows.
            if field not in changeable.setdefault(key, []):
                changeable[key].append(dict(field))
            if isinstance(defaults.get(key), str | int | float):
                field["default"] = defaults[key]
        body["required"].remove("name")
        body["description"] = inspect.getdoc(cls)
        schemas[f"{cls.__name__}Body"] = body
        schemas[cls.__name__] = {**body, "properties": {**body["properties"], **shown_fields}}
    for name, suffix in (("AlertRule", ""), ("AlertRuleBody", "Body")):
        references = {str(kind): f"#/components/schemas/{cls.__name__}{suffix}" for kind, cls in CLASSES.items()}
        schemas[name] = {
            "oneOf": [{"$ref": reference} for reference in references.values()],
            "discriminator": {"propertyName": "kind", "mapping": references},
        }
    schemas["NewAlertRule"] = {"allOf": [{"$ref": "#/components/schemas/AlertRuleBody"}], "required": ["name"]}
    kinds = {"type": "string", "enum": [str(kind) for kind in CLASSES], "description": DESCRIPTIONS["kind"]}
    alternatives = {**changeable, "kind": [kinds]}
    schemas["AlertRuleChange"] = {
        "type": "object",
        "properties": {key: {"anyOf": [*parts, {"type": "null"}]} for key, parts in alternatives.items()},
        "additionalProperties": False,
    }


class AlertRules(Resource):
    """All alert rules."""

    rule = "/v1/alert-rules"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @takes(PageQuery, location="query")
    @answers(200, page_of(AlertRuleSchema, "AlertRulePage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the rules, by name."""
        (after,) = pagination.decode(query.get("cursor"), pagination.BY_NAME) or ("",)
        with self.deps.reading.connect() as connection:
            rules = _list_rules(_get_overview(connection))
        rest = [rule for rule in rules if _sort_key(rule) > after]
        page = rest[: query["limit"]]
        last = (_sort_key(page[-1]),) if len(rest) > len(page) else None
        return {"items": page, "next_cursor": pagination.encode(last)}

    @takes(NewAlertRuleSchema, unknown=INCLUDE)
    @answers(201, AlertRuleSchema)
    def post(self, body: dict[str, Any]) -> tuple[Shown, int, dict[str, str]]:
        """Create a rule. It is in force within seconds."""
        definition = _check(body)
        name = definition["name"]
        with self.deps.engine.begin() as connection:
            shown, is_new = _store(connection, definition, self.caller.name)
            if not is_new:
                raise ProblemError(409, f"A rule called {name!r} exists already.")
            self.audit(connection, "alert_rule.created", f"alert_rule:{name}", after=definition)
        return shown, 201, {"Location": f"/v1/alert-rules/{name}"}


class OneAlertRule(Resource):
    """One alert rule."""

    rule = "/v1/alert-rules/<name>"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = dict.fromkeys(("PUT", "PATCH", "DELETE"), Scope.ADMIN)

    @answers(200, AlertRuleSchema)
    def get(self, name: str) -> Shown:
        """Show a rule."""
        with self.deps.reading.connect() as connection:
            return _get_rule(_get_overview(connection), name)

    @takes(AlertRuleBodySchema, unknown=INCLUDE)
    @answers(200, AlertRuleSchema)
    @also_answers(201, schema=AlertRuleSchema, description="It is new")
    def put(self, body: dict[str, Any], name: str) -> tuple[Shown, int]:
        """Create a rule of this name, or replace it."""
        definition = _check({**body, "name": name})
        with self.deps.engine.begin() as connection:
            shown, is_new = _store(connection, definition, self.caller.name)
            self.audit(connection, "alert_rule.replaced", f"alert_rule:{name}", after=definition)
        return shown, 201 if is_new else 200

    @takes(AlertRuleChangeSchema, unknown=INCLUDE)
    @answers(200, AlertRuleSchema)
    def patch(self, body: dict[str, Any], name: str) -> Shown:
        """Change the given fields (JSON Merge Patch, RFC 7396); null restores the default."""
        with self.deps.engine.begin() as connection:
            found = _get_overview(connection)
            store.refuse_rule_of_file(found, name)
            definitions = {rule.name: rule.definition for rule in found.of_api}
            before = require(definitions.get(name), f"rule called {name!r}")
            merged = {**before, **body, "name": name}
            definition = _check({field: value for field, value in merged.items() if value is not None})
            shown, _ = _store(connection, definition, self.caller.name)
            self.audit(connection, "alert_rule.changed", f"alert_rule:{name}", before=before, after=definition)
            return shown

    @answers(204)
    def delete(self, name: str) -> None:
        """Delete a rule. Its alerts are resolved within a minute."""
        with self.deps.engine.begin() as connection:
            if not alerts.delete_rule(connection, name):
                store.refuse_rule_of_file(_get_overview(connection), name)
                raise not_found(f"rule called {name!r}")
            self.audit(connection, "alert_rule.removed", f"alert_rule:{name}")


def _check(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definition in a body. Raises ProblemError (422) with everything that is wrong."""
    definition = {field: value for field, value in body.items() if field not in _READ_ONLY}
    try:
        document.load_alert_rule(definition)
    except RulesError as error:
        errors: dict[str, list[str]] = {}
        for problem in error.problems:
            errors.setdefault(problem.field or "body", []).append(problem.message)
        raise invalid(errors) from None
    return definition


def _store(connection: Connection, definition: Mapping[str, Any], actor: str) -> tuple[Shown, bool]:
    """Create or replace a rule; return it as it is shown, and whether it is new."""
    _get_overview(connection)
    is_new = store.save_rule(connection, definition, actor, datetime.now(UTC))
    return _get_rule(_get_overview(connection), str(definition["name"])), is_new


def _get_overview(connection: Connection) -> Overview:
    try:
        return store.overview(connection)
    except RulesError as error:
        raise ProblemError(503, f"This version cannot read the rules in force: {error}") from None


def _get_rule(found: Overview, name: str) -> Shown:
    rules = [rule for rule in _list_rules(found) if rule["name"] == name]
    if not rules:
        raise not_found(f"rule called {name!r}")
    return rules[-1]  # of two rules of one name the file's, which is in force


def _list_rules(found: Overview) -> list[Shown]:
    """Return all rules as they are shown, in the order of a list."""
    rules: list[Shown] = []
    for rule in found.rules.alerts:
        about = {"origin": "file", "in_force": rule.enabled, "created_at": None, "updated_at": None, "created_by": None}
        rules.append({**document.dump_alert_rule(rule), **about})
    for stored in found.of_api:
        try:
            rule = document.load_alert_rule(stored.definition)
            definition, enabled = document.dump_alert_rule(rule), rule.enabled
        except RulesError:  # a newer version has accepted it
            definition, enabled = dict(stored.definition), False
        about = {
            "origin": "api",
            "in_force": enabled and stored.name not in found.names,
            "created_at": stored.created_at,
            "updated_at": stored.updated_at,
            "created_by": stored.created_by,
        }
        rules.append({**definition, **about})
    return sorted(rules, key=_sort_key)


def _sort_key(rule: Shown) -> str:
    return f"{rule['name']} {rule['origin']}"


RESOURCES = (AlertRules, OneAlertRule)
