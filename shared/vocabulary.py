"""Every word of the domain, named once. Adapters translate into these; nobody invents a synonym."""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final


class EventType(StrEnum):
    """What happened to an email, whichever provider says so."""

    QUEUED = "queued"
    SENT = "sent"
    DEFERRED = "deferred"
    HELD = "held"
    RATE_LIMITED = "rate_limited"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    FAILED = "failed"
    REJECTED = "rejected"
    OPENED = "opened"
    READ = "read"
    CLICKED = "clicked"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"
    AUTORESPONDED = "autoresponded"
    REPLIED = "replied"
    INBOUND = "inbound"
    DOMAIN_DNS_ERROR = "domain_dns_error"
    SEND_LIMIT_APPROACHING = "send_limit_approaching"
    SEND_LIMIT_EXCEEDED = "send_limit_exceeded"
    TEST = "test"
    UNKNOWN = "unknown"


class Status(StrEnum):
    """Where the delivery to one recipient stands. The order is the rank that breaks ties of time."""

    SUBMITTED = "submitted"
    QUEUED = "queued"
    SENT = "sent"
    HELD = "held"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    FAILED = "failed"
    BOUNCED = "bounced"


class Classification(StrEnum):
    """Why a delivery failed: Ark's list, which every provider's words are mapped onto."""

    INVALID_RECIPIENT = "invalid_recipient"
    INACTIVE_MAILBOX = "inactive_mailbox"
    MAILBOX_FULL = "mailbox_full"
    INVALID_DOMAIN = "invalid_domain"
    DNS_FAILURE = "dns_failure"
    ROUTING_ERROR = "routing_error"
    SPAM_BLOCK = "spam_block"
    SPAM_CONTENT = "spam_content"
    POLICY_REJECTION = "policy_rejection"
    CONNECTION_ERROR = "connection_error"
    PROTOCOL_ERROR = "protocol_error"
    TRANSIENT_FAILURE = "transient_failure"
    UNCLASSIFIED = "unclassified"


class ClassificationCode(IntEnum):
    """The numbers of the classifications: tens group them (recipient, domain, policy, technical)."""

    INVALID_RECIPIENT = 10
    INACTIVE_MAILBOX = 11
    MAILBOX_FULL = 12
    INVALID_DOMAIN = 20
    DNS_FAILURE = 21
    ROUTING_ERROR = 22
    SPAM_BLOCK = 30
    SPAM_CONTENT = 31
    POLICY_REJECTION = 32
    CONNECTION_ERROR = 40
    PROTOCOL_ERROR = 41
    TRANSIENT_FAILURE = 42
    UNCLASSIFIED = 99


class ReceiptState(StrEnum):
    """What became of one stored request."""

    PENDING = "pending"
    PROCESSED = "processed"
    UNVERIFIED = "unverified"
    REJECTED = "rejected"
    DEAD = "dead"


class RefusalReason(StrEnum):
    """Why the receiver did not take a request."""

    UNKNOWN_SOURCE = "unknown_source"
    MISSING_SIGNATURE = "missing_signature"
    MALFORMED_SIGNATURE = "malformed_signature"
    BAD_SIGNATURE = "bad_signature"
    DIGEST_MISMATCH = "digest_mismatch"
    STALE = "stale"
    REPLAYED = "replayed"
    """Another request came with the same signature before."""
    UNKNOWN_KEY = "unknown_key"
    UNCONFIRMED = "unconfirmed"
    """Verified, but a worker must confirm the subscription first."""
    BAD_CREDENTIALS = "bad_credentials"
    TOO_LARGE = "too_large"
    EMPTY_BODY = "empty_body"
    ENCODED = "content_encoding"
    UNREADABLE = "unreadable"
    QUARANTINE_FULL = "quarantine_full"
    UNAVAILABLE = "unavailable"


class MailType(StrEnum):
    """A type of mail, which a suppression may cover. The two words are MailChannels'."""

    TRANSACTIONAL = "transactional"
    NON_TRANSACTIONAL = "non_transactional"


class SuppressionReason(StrEnum):
    """Why an address or a domain is suppressed."""

    HARD_BOUNCE = "hard_bounce"
    SOFT_BOUNCE = "soft_bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"


class SuppressionOrigin(StrEnum):
    """What put an entry on the suppression list."""

    EVENT = "event"
    PERSON = "person"
    IMPORT = "import"
    PROVIDER = "provider"


class SuppressionAction(StrEnum):
    """What was done to an entry of the suppression list."""

    ADDED = "added"
    LIFTED = "lifted"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    ERASED = "erased"


ALL_MAIL = frozenset(MailType)


class Severity(StrEnum):
    """How urgent it is; the order of the members is the order of urgency."""

    WARNING = "warning"
    CRITICAL = "critical"

    def exceeds(self, other: "Severity") -> bool:
        """Return whether this is the more urgent one."""
        order = list(Severity)
        return order.index(self) > order.index(other)


CHANGE_TYPES: Mapping[EventType, str] = {
    **{event_type: f"message.{event_type}" for event_type in EventType},
    EventType.INBOUND: "inbound.received",
    EventType.DOMAIN_DNS_ERROR: "domain.dns_error",
    EventType.SEND_LIMIT_APPROACHING: "send_limit.approaching",
    EventType.SEND_LIMIT_EXCEEDED: "send_limit.exceeded",
}
"""How the change that an event makes is announced to subscribers."""


class SubscriptionState(StrEnum):
    """State of a subscription. Deliveries to a paused one wait; for a disabled one, none are created."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class PayloadFormat(StrEnum):
    """The format in which a change is sent."""

    TIDINGS = "tidings"
    CLOUDEVENTS = "cloudevents"


class DeliveryStatus(StrEnum):
    """State of the delivery of one change to one subscription."""

    PENDING = "pending"
    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    QUARANTINED = "quarantined"


class AttemptStatus(StrEnum):
    """Result of one attempt."""

    SUCCESS = "success"
    FAILED = "failed"


class SetAsideReason(StrEnum):
    """Why an authentic event changed nothing."""

    OTHER_ACCOUNT = "other_account"
    """Of an account or tenant that the source does not accept."""
    NO_TENANT = "no_tenant"
    UNREADABLE = "unreadable"
    """A field that identifies it is missing or has the wrong type."""
    UNKNOWN_KIND = "unknown_kind"
    """Of a kind or form that this version does not know."""


class AlertKind(StrEnum):
    """What an alert rule measures: see the rules in `shared.alerts.rules` and the classes in `shared.alerts.kinds`."""

    RATE = "rate"
    EVENT = "event"
    SILENCE = "silence"
    ANNOUNCED = "announced"
    MASS_FAILURES = "mass_failures"
    VERIFICATION_FAILURES = "verification_failures"
    PENDING_AGE = "pending_age"
    UNVERIFIED_AGE = "unverified_age"
    DEAD_RECEIPTS = "dead_receipts"
    SET_ASIDE = "set_aside"
    RECONCILED = "reconciled"
    RECONCILIATION_FAILURES = "reconciliation_failures"
    GIVEN_UP = "given_up"
    DEAD_DELIVERIES = "dead_deliveries"
    SUBSCRIPTION_DISABLED = "subscription_disabled"
    RULES_REFUSED = "rules_refused"
    BROKER_UNUSABLE = "broker_unusable"


JOB_KINDS: Final = (
    "import_suppressions", "export_suppressions", "erase", "rewrite_addresses", "replay", "recover",
    "abandon_deliveries", "reprocess", "reconcile", "pull_suppressions", "push_suppressions",
)  # fmt: skip
"""What long-running jobs do (`workers.jobs.runner`)."""


class JobState(StrEnum):
    """The state of a long-running job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether the state is final."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Per(StrEnum):
    """The scope within which an alert rule counts events together."""

    ALL = "all"
    SOURCE = "source"
    TENANT = "tenant"
    SENDER_DOMAIN = "sender_domain"
    RECIPIENT_DOMAIN = "recipient_domain"
