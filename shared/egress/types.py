"""One request that leaves the house, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A POST to make. `key` is what its outcome is told by; the deadline is for all of it, looking up the name too."""

    key: UUID
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a call.

    `http_status` is 0 where no response came: then `network_error` says why. A response is there as soon as its
    headers are; `truncated` says that more of it was to come, or did, than is kept. Names of headers are in lower case.
    """

    key: UUID
    http_status: int
    latency_ms: int
    network_error: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: bool = False
