"""Subscriptions: who is told of which changes, where, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

ANY = "*"


class SubscriptionState(StrEnum):
    """Whether it is delivered to. What comes meanwhile waits for a paused one, and not for a disabled one."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class Payload(StrEnum):
    """The form in which a change is told."""

    TIDINGS = "tidings"
    CLOUDEVENTS = "cloudevents"


class Wishes(Protocol):
    """What is asked for by a subscription, in whatever form it is held. Empty lets everything through."""

    @property
    def types(self) -> Sequence[str]:
        """Such as `message.*` and `alert.firing`."""

    @property
    def sources(self) -> Sequence[str]:
        """Slugs."""

    @property
    def tenant(self) -> str | None:
        """None is every tenant."""

    @property
    def recipient_domains(self) -> Sequence[str]:
        """What follows the `@`."""

    @property
    def tags(self) -> Sequence[str]:
        """Those of messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningSecret:
    """What is signed with, until `expires_at`; None: for good."""

    value: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One subscription. Empty filters let everything through; `tenant` None is every tenant.

    `retry_schedule` is in seconds before each retry. With `ordered`, the changes of one message are told one after
    the other.
    """

    id: str
    url: str
    types: Sequence[str]
    sources: Sequence[str] = ()
    tenant: str | None = None
    recipient_domains: Sequence[str] = ()
    tags: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[SigningSecret]
    payload: Payload = Payload.TIDINGS
    timeout_s: int
    retry_schedule: Sequence[int]
    rate_per_second: float | None = None
    concurrency: int
    ordered: bool = False
    state: SubscriptionState = SubscriptionState.ACTIVE
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSubject:
    """What a change is about, as far as it decides who is told."""

    type: str
    source: str | None = None
    tenant: str | None = None
    recipient_domain: str | None = None
    tag: str | None = None


def matches(subscription: Wishes, subject: ChangeSubject) -> bool:
    """Whether this subscription wants to be told of such a change."""
    return (
        any(covers(pattern, subject.type) for pattern in subscription.types)
        and _has(subscription.sources, subject.source)
        and (subscription.tenant is None or subscription.tenant == subject.tenant)
        and _has(subscription.recipient_domains, subject.recipient_domain)
        and _has(subscription.tags, subject.tag)
    )


def covers(pattern: str, type_: str) -> bool:
    """Whether a pattern such as `message.*`, `*` or `alert.firing` stands for this type."""
    return pattern == type_ or (pattern.endswith(ANY) and type_.startswith(pattern.removesuffix(ANY)))


def _has(wanted: Sequence[str], value: str | None) -> bool:
    return not wanted or value in wanted
