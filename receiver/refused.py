"""A request that is not taken, and how its sender is told."""

import msgspec
import structlog

from shared.asgi import gateway
from shared.asgi.gateway import Answer
from shared.providers.webhooks.base import StatusCodes
from shared.vocabulary import RefusalReason

_RETRY_AFTER_SECONDS = 5

log = structlog.get_logger()


class Refused(Exception):  # noqa: N818 - an outcome, not a fault
    """A request that is not taken: the code to answer, and why. `size` is that of its body, if it is known."""

    def __init__(self, status_code: int, reason: RefusalReason, detail: str, *, size: int = 0) -> None:
        super().__init__(detail)
        self.status_code = status_code
        self.reason = reason
        self.size = size


def answer(refused: Refused) -> Answer:
    """What is sent back."""
    said = msgspec.json.encode({"reason": refused.reason, "error": str(refused)})
    told = gateway.whole(refused.status_code, said)
    if refused.reason is RefusalReason.UNAVAILABLE:
        told.headers.append((b"retry-after", b"%d" % _RETRY_AFTER_SECONDS))
    return told


def failed(error: Exception, path: str) -> Refused:
    """What nobody foresaw, logged: the provider is to try again."""
    log.error("a request failed", path=path, exc_info=error)
    return Refused(StatusCodes().unavailable, RefusalReason.UNAVAILABLE, "something failed here; try again")
