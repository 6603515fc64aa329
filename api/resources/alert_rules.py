"""The rules about alerts: those of the rules file can be seen here, others can be made."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from marshmallow import INCLUDE, Schema, fields, post_dump
from sqlalchemy import Connection

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, invalid, not_found
from api.core.fields import PageQuery, instant, page_of, text
from api.core.resource import Resource, also_answers, answers, takes
from shared import rules as written
from shared.alerts import store as alerts
from shared.alerts.policy import AlertRule
from shared.alerts.store import ApiRule
from shared.auth.keys import Scope
from shared.rules import Overview, RulesError
from shared.rules.alerts import MOST_RULES
from shared.vocabulary import AlertKind

_SHOWN_ONLY = frozenset({"origin", "in_force", "created_at", "updated_at", "created_by"})
"""What an answer says besides the definition: a rule can be sent back as it was shown."""

Shown = Mapping[str, Any]


class RuleBody(Schema):
    """A rule: `name`, `kind`, and what can be set for the kind. What is not given has the default of the kind."""

    class Meta:
        """What can be set depends on the kind, and is checked as the rules file is."""

        unknown = INCLUDE

    kind = fields.Raw(metadata={"type": "string", "enum": [str(kind) for kind in AlertKind]})
    enabled = fields.Raw(metadata={"type": "boolean"})
    warning = fields.Raw(metadata={"description": "From which value on; its unit is that of the kind."})
    critical = fields.Raw(metadata={"description": "From which value on it is critical."})
    resolve_after_minutes = fields.Raw(metadata={"type": "integer"})
    cool_down_minutes = fields.Raw(metadata={"type": "integer"})


class NewRule(RuleBody):
    """A rule to be made."""

    name = fields.Raw(metadata={"type": "string", "examples": ["bounces-of-big-tenants"]})


class Rule(NewRule):
    """A rule, with all that its kind can have."""

    origin = fields.String(
        metadata={
            "enum": ["file", "api"],
            "description": "`file`: of the rules file, or of the defaults where there is none; changed there.",
        }
    )
    in_force = fields.Boolean(metadata={"description": "False if it is disabled, or the file has one of its name."})
    created_at = instant("Null for those of the file.")
    updated_at = instant("Null for those of the file.")
    created_by = text()

    @post_dump(pass_original=True)
    def _with_what_its_kind_has(self, data: dict[str, Any], original: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        return {**original, **data}


class Rules(Resource):
    """All rules about alerts."""

    rule = "/v1/alert-rules"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @takes(PageQuery, location="query")
    @answers(200, page_of(Rule, "AlertRulePage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the rules, by name."""
        (after,) = pagination.decode(query.get("cursor"), pagination.BY_NAME) or ("",)
        with self.deps.engine.begin() as connection:
            rules = _all(_overview(connection))
        left = [rule for rule in rules if _place(rule) > after]
        page = left[: query["limit"]]
        last = (_place(page[-1]),) if len(left) > len(page) else None
        return {"items": page, "next_cursor": pagination.encode(last)}

    @takes(NewRule, unknown=INCLUDE)
    @answers(201, Rule)
    def post(self, body: dict[str, Any]) -> tuple[Shown, int, dict[str, str]]:
        """Make a rule. It is in force within seconds."""
        definition = _definition(body)
        name = _read(definition).name
        with self.deps.engine.begin() as connection:
            shown, is_new = _put(connection, definition, self.caller.name)
            if not is_new:
                raise ProblemError(409, f"There is a rule called {name!r} already.")
            self.audit(connection, "alert_rule.created", f"alert_rule:{name}", after=definition)
        return shown, 201, {"Location": f"/v1/alert-rules/{name}"}


class OneRule(Resource):
    """One rule about alerts."""

    rule = "/v1/alert-rules/<name>"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = dict.fromkeys(("PUT", "PATCH", "DELETE"), Scope.ADMIN)

    @answers(200, Rule)
    def get(self, name: str) -> Shown:
        """Show a rule."""
        with self.deps.engine.begin() as connection:
            return _find(_overview(connection), name)

    @takes(RuleBody, unknown=INCLUDE)
    @answers(200, Rule)
    @also_answers(201, schema=Rule, description="It is new")
    def put(self, body: dict[str, Any], name: str) -> tuple[Shown, int]:
        """Make a rule of this name, or replace it."""
        definition = {**_definition(body), "name": name}
        _read(definition)
        with self.deps.engine.begin() as connection:
            shown, is_new = _put(connection, definition, self.caller.name)
            self.audit(connection, "alert_rule.replaced", f"alert_rule:{name}", after=definition)
        return shown, 201 if is_new else 200

    @takes(RuleBody, unknown=INCLUDE)
    @answers(200, Rule)
    def patch(self, body: dict[str, Any], name: str) -> Shown:
        """Change what is given (JSON Merge Patch, RFC 7396); null sets the default."""
        with self.deps.engine.begin() as connection:
            found = _overview(connection)
            _refuse_what_is_of_file(found, name)
            before = next((rule.definition for rule in found.of_api if rule.name == name), None)
            if before is None:
                raise _unknown(name)
            merged = {**before, **_definition(body), "name": name}
            definition = {field: value for field, value in merged.items() if value is not None}
            _read(definition)
            shown, _ = _put(connection, definition, self.caller.name)
            self.audit(connection, "alert_rule.changed", f"alert_rule:{name}", before=before, after=definition)
            return shown

    @answers(204)
    def delete(self, name: str) -> None:
        """Remove a rule. What it fires is resolved within a minute."""
        with self.deps.engine.begin() as connection:
            if not alerts.remove_rule(connection, name):
                _refuse_what_is_of_file(_overview(connection), name)
                raise _unknown(name)
            self.audit(connection, "alert_rule.removed", f"alert_rule:{name}")


def _overview(connection: Connection) -> Overview:
    try:
        return written.overview(connection)
    except RulesError as error:
        raise ProblemError(503, f"The rules in force cannot be read by this version: {error}") from None


def _definition(body: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in body.items() if field not in _SHOWN_ONLY}


def _read(definition: Mapping[str, Any]) -> AlertRule:
    """The rule that is defined. Raises ProblemError (422), which tells all that is wrong."""
    try:
        return written.read_rule(definition)
    except RulesError as error:
        wrong: dict[str, list[str]] = {}
        for problem in error.problems:
            wrong.setdefault(problem.field or "body", []).append(problem.message)
        raise invalid(wrong) from None


def _put(connection: Connection, definition: Mapping[str, Any], actor: str) -> tuple[Shown, bool]:
    """Make or replace a rule whose definition was read; how it is shown, and whether it is new."""
    name, found = str(definition["name"]), _overview(connection)
    _refuse_what_is_of_file(found, name)
    if len(found.of_api) >= MOST_RULES and all(rule.name != name for rule in found.of_api):
        raise ProblemError(409, f"There are {MOST_RULES} rules already, which is the most there can be.")
    is_new = alerts.put_rule(connection, name, definition, actor, datetime.now(UTC))
    return _find(_overview(connection), name), is_new


def _refuse_what_is_of_file(found: Overview, name: str) -> None:
    if name in found.names:
        where = f"It is in {found.path}" if found.path else "It is one of the defaults, which a rules file replaces"
        raise ProblemError(409, f"The rule {name!r} cannot be changed over the API. {where}; change it there.")


def _all(found: Overview) -> list[Shown]:
    rules = [_of_file(rule) for rule in found.rules.alerts] + [_of_api(rule, found) for rule in found.of_api]
    return sorted(rules, key=_place)


def _find(found: Overview, name: str) -> Shown:
    rules = [rule for rule in _all(found) if rule["name"] == name]
    if not rules:
        raise _unknown(name)
    return rules[-1]  # of two of this name that of the file, which is in force


def _place(rule: Shown) -> str:
    return f"{rule['name']} {rule['origin']}"


def _of_file(rule: AlertRule) -> Shown:
    return {
        **written.definition(rule),
        "origin": "file",
        "in_force": rule.enabled,
        **dict.fromkeys(("created_at", "updated_at", "created_by")),
    }


def _of_api(stored: ApiRule, found: Overview) -> Shown:
    try:
        rule = written.read_rule(stored.definition)
        definition, enabled = written.definition(rule), rule.enabled
    except RulesError:  # made by a version that took what this one does not
        definition, enabled = dict(stored.definition), False
    return {
        **definition,
        "origin": "api",
        "in_force": enabled and stored.name not in found.names,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
        "created_by": stored.created_by,
    }


def _unknown(name: str) -> ProblemError:
    return not_found(f"rule called {name!r}")


RESOURCES = (Rules, OneRule)
