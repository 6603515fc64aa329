"""The file of `tidings apply`: its schema, its secrets, and changes of what is stored so that it is as declared.

An item of the file is the body of the API's POST, checked by the same schema. Everything is changed in one transaction,
by the services that the API and the other commands use.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from marshmallow import ValidationError, fields, validate, validates_schema
from sqlalchemy import Connection, Row

from api.core.fields import Strict
from api.resources.alert_channels import NewChannel
from api.resources.keys import NewKey
from api.resources.sources import NewSource
from api.resources.subscription_fields import NewSubscription
from cli import context
from cli.context import CommandContext
from cli.options import read_text
from shared.alerts import store as alerts
from shared.auth import audit
from shared.auth import keys as auth_keys
from shared.egress import captures
from shared.errors import ConflictError, InvalidFieldError, NotFoundError, suggest
from shared.notifications import channels as channel_service
from shared.notifications import store as channel_store
from shared.notifications.channels import ValidUrl
from shared.receipts import quarantine
from shared.rules import document, schemas
from shared.rules import store as rule_store
from shared.rules.document import Document, KeyPath, Problem, RulesError
from shared.sources import service as source_service
from shared.sources import store as source_store
from shared.sources.service import MASK
from shared.subscriptions import service as subscription_service
from shared.subscriptions import store as subscription_store
from shared.subscriptions import validation, view
from shared.subscriptions.secrets import open_subscription
from shared.subscriptions.service import CheckedUrl

_MAX_LISTED: Final = 10_000
_NAMES: Final = {"sources": "slug", "rules": "name", "channels": "name", "subscriptions": "name", "keys": "name"}
"""The field that names an item of each section, in the order in which sections are applied."""
_KEPT_CREDENTIALS: Final = ("previous",)
_KEPT_SETTINGS: Final = ("quarantine_until",)
"""Fields that commands set for a time. They stay unless the file has them."""
_SECRET_FIELDS: Final = frozenset({"credentials", "secret", "headers", "url"})
_CHANGED: Final = "changed"
_PATH_PART: Final = re.compile(r"[^.\[\]]+")


class _DeclaredSubscription(NewSubscription):
    """A subscription, which is found by its name."""

    name = fields.String(required=True)


class _DeclaredKey(NewKey):
    """A key, which is found by its name."""

    secret = fields.String()


class FileSchema(Strict):
    """The file: a list of each kind of object."""

    sources = fields.List(fields.Nested(NewSource))
    rules = fields.List(schemas.alert_rule(), validate=validate.Length(max=schemas.MAX_ALERT_RULES))
    channels = fields.List(fields.Nested(NewChannel))
    subscriptions = fields.List(fields.Nested(_DeclaredSubscription))
    keys = fields.List(fields.Nested(_DeclaredKey))

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_names(self, _data: Any, original: Any, **_: Any) -> None:
        """Refuse two items of one name."""
        errors: dict[str, dict[int, dict[str, list[str]]]] = {}
        for section, name in _NAMES.items():
            items = original.get(section) if isinstance(original, dict) else None
            first: dict[str, int] = {}
            for position, item in enumerate(items if isinstance(items, list) else []):
                given = item.get(name) if isinstance(item, dict) else None
                if isinstance(given, str) and first.setdefault(given, position) != position:
                    message = f"expected a {name} that {section}[{first[given]}] does not have"
                    errors.setdefault(section, {})[position] = {name: [message]}
        if errors:
            raise ValidationError(errors)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result for one item: it was `created`, `changed` or `unchanged`, with the fields that differed.

    `secret` is a new one that was generated: it cannot be shown again.
    """

    kind: str
    name: str
    action: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    secret: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Run:
    """The transaction in which items are applied. `urls` are those that were checked before it."""

    ctx: CommandContext
    connection: Connection
    now: datetime
    urls: Mapping[str, Any]
    subscriptions: Mapping[str, list[Row[Any]]]
    keys: Mapping[str, Row[Any]]

    def check(self, url: str) -> CheckedUrl:
        """Return a URL for deliveries. One that is not in `urls` is in use already, or nothing will be committed."""
        return CheckedUrl(self.urls.get(url, url))


def read(path: Path) -> Document:
    """Return a file that the schema accepts, with its secrets resolved. Raises RulesError with every position."""
    found = document.check(document.read_text(path), str(path), FileSchema(), _may_be_secret)
    problems: list[Problem] = []

    def resolve(value: Any, where: KeyPath) -> Any:
        if isinstance(value, dict):
            return {name: resolve(entry, (*where, name)) for name, entry in value.items()}
        if isinstance(value, list):
            return [resolve(entry, (*where, number)) for number, entry in enumerate(value)]
        try:
            return _resolve(value, path.parent) if type(value) is str else value
        except ValueError as error:
            problems.append(found.describe(str(error), where))
            return value

    loaded = resolve(found.loaded, ())
    if problems:
        raise RulesError(problems, found.name)
    return Document(name=found.name, values=found.values, loaded=loaded, positions=found.positions)


def _may_be_secret(path: KeyPath) -> bool:
    """Return whether a value must not be quoted: that of a secret field, or text in place of a section or an item."""
    return len(path) <= len(("section", 0)) or not _SECRET_FIELDS.isdisjoint(path)


def _resolve(text: str, folder: Path) -> str:
    """Return what `env:NAME` or `file:PATH` stands for; any other text unchanged. Raises ValueError."""
    if MASK in text:
        raise ValueError(f"expected a value, but {MASK} stands for a secret that was masked; use env: or file:")
    kind, colon, name = text.partition(":")
    if kind == "env" and colon:
        value = os.environ.get(name, "")
        if not value:
            raise ValueError(f"expected an environment variable, but {name!r} is not set.{suggest(name, os.environ)}")
        return value
    if kind == "file" and colon:
        try:
            secret = read_text((folder / name).expanduser()).rstrip("\r\n")
        except ValueError as error:
            raise ValueError(f"expected a file with a secret, but {name!r} cannot be read: {error}") from None
        if "\0" in secret:
            raise ValueError(f"expected a file with a secret, but {name!r} has a NUL character")
        return secret
    return text


def apply(ctx: CommandContext, declared: Document, *, dry_run: bool) -> list[Outcome]:
    """Change the stored configuration to what the file declares; return the outcomes. Items that it does not name stay.

    All or nothing: with an error, and with `dry_run`, nothing is changed. Raises RulesError with the positions.
    """
    problems: list[Problem] = []
    outcomes: list[Outcome] = []
    urls = _check_urls(ctx, declared, problems)
    with ctx.engine.connect() as connection, connection.begin() as transaction:
        subscriptions: dict[str, list[Row[Any]]] = defaultdict(list)
        for row in _list_subscriptions(connection):
            subscriptions[row.name].append(row)
        run = _Run(
            ctx=ctx,
            connection=connection,
            now=datetime.now(UTC),
            urls=urls,
            subscriptions=subscriptions,
            keys={
                row.name: row
                for row in reversed(auth_keys.list_keys(connection, limit=_MAX_LISTED))
                if not row.revoked_at
            },
        )
        for path, item in _list_items(declared):
            try:
                outcomes.append(_APPLY[str(path[0])](run, item))
            except InvalidFieldError as error:
                # A field such as `headers[0]` or `credentials.api_key`.
                keys = (int(part) if part.isdigit() else part for part in _PATH_PART.findall(error.field))
                problems.append(declared.describe(str(error), (*path, *keys)))
            except (ConflictError, NotFoundError) as error:
                problems.append(declared.describe(str(error), path))
        if problems or dry_run:
            transaction.rollback()
    if problems:
        raise RulesError(problems, declared.name)
    return outcomes


def _list_items(declared: Document) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the items with their paths, in the order in which they are applied: what others name comes first."""
    for section in _NAMES:
        # The rules as they were written: loading them adds the defaults of this version.
        items = declared.values if section == "rules" else declared.loaded
        for position, item in enumerate(items.get(section, ())):
            yield (section, position), item


def _check_urls(ctx: CommandContext, declared: Document, problems: list[Problem]) -> dict[str, Any]:
    """Return the URLs of new and changed items, checked. Resolves host names: call it outside of transactions."""
    with ctx.engine.begin() as connection:
        known = {row.url for row in _list_subscriptions(connection)}
    checked: dict[str, Any] = {}
    for path, item in _list_items(declared):
        try:
            if path[0] == "subscriptions" and item["url"] not in known:
                checked[item["url"]] = subscription_service.check_url(item["url"], ctx.settings.egress_allow)
            elif path[0] == "channels":
                checked[item["url"]] = channel_service.validate_url(item["kind"], item["url"])
        except InvalidFieldError as error:
            problems.append(declared.describe(str(error), (*path, "url")))
    return checked


def _list_subscriptions(connection: Connection) -> list[Row[Any]]:
    return list(subscription_store.get_many(connection, list(subscription_store.get_versions(connection))))


def _apply_source(run: _Run, item: Mapping[str, Any]) -> Outcome:
    slug, vault = item["slug"], run.ctx.vault
    row = source_store.find(run.connection, slug)
    if row is None:
        row = source_service.create(run.connection, vault, **item)
        context.audit(run.connection, "source.created", f"source:{slug}", provider=row.provider)
        return Outcome(kind="source", name=slug, action="created")
    if row.provider != item["provider"]:
        message = f"The provider of a source cannot be changed; it is {row.provider}. Choose another slug."
        raise InvalidFieldError("provider", item["provider"], message)
    credentials = source_service.make_patch(vault.open(row.credentials), item["credentials"], _KEPT_CREDENTIALS)
    settings = source_service.make_patch(row.settings, item["settings"], _KEPT_SETTINGS)
    if not (credentials or settings):
        return Outcome(kind="source", name=slug, action="unchanged")
    changed = source_service.change(
        run.connection, vault, slug, credentials=credentials or None, settings=settings or None
    )
    if changed is None:
        raise context.source_not_found(run.connection, slug)
    quarantine.make_due(run.connection, row.id)
    context.audit(run.connection, "source.changed", f"source:{slug}", **audit.difference(row, changed))
    changes: dict[str, Any] = {f"credentials.{name}": _CHANGED for name in credentials}
    for name, value in settings.items():
        changes[f"settings.{name}"] = {"before": row.settings.get(name), "after": value}
    return Outcome(kind="source", name=slug, action="changed", changes=changes)


def _apply_rule(run: _Run, item: Mapping[str, Any]) -> Outcome:
    name = str(item["name"])
    before = next((row.definition for row in alerts.list_rules(run.connection) if row.name == name), None)
    if before == item:
        return Outcome(kind="rule", name=name, action="unchanged")
    rule_store.save_rule(run.connection, item, context.current_user(), run.now)
    action = "created" if before is None else "replaced"
    context.audit(run.connection, f"alert_rule.{action}", f"alert_rule:{name}", after=item)
    if before is None:
        return Outcome(kind="rule", name=name, action="created")
    return Outcome(kind="rule", name=name, action="changed", changes=_compare(before, item))


def _apply_channel(run: _Run, item: Mapping[str, Any]) -> Outcome:
    name, url = item["name"], ValidUrl(run.urls.get(item["url"], item["url"]))
    limits = {limit: item.get(limit) or None for limit in ("sources", "tenants", "rules")}
    row = channel_store.get_channel(run.connection, name)
    if row is None:
        made, secret = channel_service.create(run.connection, run.ctx.vault, **{**item, "url": url})
        context.audit(run.connection, "alert_channel.created", f"alert_channel:{name}", kind=made.kind)
        return Outcome(kind="channel", name=name, action="created", secret=None if "secret" in item else secret)
    if row.kind != item["kind"]:
        raise InvalidFieldError("kind", item["kind"], f"The kind of a channel cannot be changed; it is {row.kind}.")
    target = run.ctx.vault.open(row.target)
    changes = _compare(
        {"least_severity": row.least_severity, **{limit: getattr(row, limit) for limit in limits}},
        {"least_severity": item["min_severity"], **limits},
    )
    changes |= {"url": _CHANGED} if target["url"] != url else {}
    if changes:
        changed = channel_service.change(
            run.connection, run.ctx.vault, name, url=url, min_severity=item["min_severity"], **limits
        )
        details = audit.difference(row, changed)
        context.audit(run.connection, "alert_channel.changed", f"alert_channel:{name}", **details)
    if "secret" in item and item["secret"] != target.get("secrets", [{}])[0].get("secret"):
        channel_service.rotate_secret(run.connection, run.ctx.vault, name, run.now, secret=item["secret"])
        context.audit(run.connection, "alert_channel.secret_rotated", f"alert_channel:{name}")
        changes["secret"] = _CHANGED
    return Outcome(kind="channel", name=name, action="changed" if changes else "unchanged", changes=changes)


def _apply_subscription(run: _Run, item: Mapping[str, Any]) -> Outcome:
    name, url, given = item["name"], item["url"], item.get("secret")
    own = {key: value for key, value in item.items() if key not in ("url", "secret", "scheme")}
    rows = run.subscriptions.get(name, [])
    if len(rows) > 1:
        message = f"There are {len(rows)} subscriptions called {name!r}; rename all but one, or remove them."
        raise InvalidFieldError("name", name, message)
    if not rows:
        new = subscription_service.create(
            run.connection,
            run.ctx.vault,
            url=run.check(url),
            fields=own,
            secret=given,
            scheme=item["scheme"],
            now=run.now,
        )
        shown_url = captures.redact_query(new.row.url)
        about = f"subscription:{new.row.id}"
        context.audit(run.connection, "subscription.created", about, url=shown_url, types=new.row.types)
        secret = None if given else new.secret or new.public_key
        return Outcome(kind="subscription", name=name, action="created", secret=secret)
    row = rows[0]
    opened = open_subscription(row, run.ctx.vault)
    wanted = validation.validate(subscription_service.DEFAULTS | own)
    headers = source_service.make_patch(opened.headers, wanted.pop("headers"))
    differing = {key: value for key, value in wanted.items() if getattr(row, key) != value}
    changes = _compare({key: getattr(row, key) for key in differing}, differing)
    changes |= {f"headers.{header}": _CHANGED for header in headers}
    changes |= {"url": _CHANGED} if row.url != url else {}
    about = f"subscription:{row.id}"
    if changes:
        changed = subscription_service.update(
            run.connection,
            run.ctx.vault,
            row.id,
            tenant=None,
            fields={**differing, **({"headers": headers} if headers else {})},
            url=None if row.url == url else run.check(url),
            now=run.now,
        )
        if changed is not None:
            context.audit(run.connection, "subscription.changed", about, **view.difference(row, changed))
    if given and given != opened.secrets[0].value:
        subscription_service.rotate_secret(
            run.connection, run.ctx.vault, row.id, tenant=None, secret=given, now=run.now
        )
        context.audit(run.connection, "subscription.secret_rotated", about)
        changes["secret"] = _CHANGED
    return Outcome(kind="subscription", name=name, action="changed" if changes else "unchanged", changes=changes)


def _apply_key(run: _Run, item: Mapping[str, Any]) -> Outcome:
    name, scope, tenant, secret = item["name"], item["scope"], item["tenant"], item.get("secret")
    row = run.keys.get(name)
    is_same = row is not None and (secret is None or row.hash == auth_keys.digest(secret))
    if row is not None and is_same:
        for key, wanted in (("scope", scope), ("tenant", tenant)):
            if getattr(row, key) != wanted:
                message = f"The {key} of a key cannot be changed; key {row.id} has {getattr(row, key) or 'none'}. "
                raise InvalidFieldError(key, wanted, message + f"Revoke it first: tidings keys revoke {row.id}")
        return Outcome(kind="key", name=name, action="unchanged")
    made = auth_keys.create_key(run.connection, name, scope, tenant, secret=secret)
    about = f"key:{made.row.id}"
    context.audit(run.connection, "key.created", about, name=name, scope=scope, tenant=tenant)
    if row is None:
        return Outcome(kind="key", name=name, action="created", secret=None if secret else made.secret)
    auth_keys.revoke_key(run.connection, row.id)
    context.audit(run.connection, "key.revoked", f"key:{row.id}")
    return Outcome(kind="key", name=name, action="changed", changes={"secret": _CHANGED})


_APPLY: Final[Mapping[str, Callable[[_Run, Any], Outcome]]] = {
    "sources": _apply_source,
    "rules": _apply_rule,
    "channels": _apply_channel,
    "subscriptions": _apply_subscription,
    "keys": _apply_key,
}


def _compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that differ, with both values."""
    names = dict.fromkeys((*before, *after))
    pairs = {name: (before.get(name), after.get(name)) for name in names}
    return {name: {"before": old, "after": new} for name, (old, new) in pairs.items() if old != new}
