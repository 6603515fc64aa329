"""One outgoing request and its outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A POST to make. Its outcome has the same `key`. The timeout covers the whole call, the DNS lookup included."""

    key: UUID
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a call.

    `http_status` is 0 without a response; then `network_error` gives the reason. Complete headers count as a response:
    `truncated` means that its body did not end, or is longer than the part in `body`. Header names are in lower case.
    """

    key: UUID
    http_status: int
    latency_ms: int
    network_error: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: bool = False
