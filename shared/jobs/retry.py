"""What to do with work that failed: decided here, carried out elsewhere."""

from dataclasses import dataclass

LONGEST_DELAY_SECONDS = 60.0
ALONE_FROM_ATTEMPT = 3
"""From this attempt on a receipt is worked on alone: it may be what killed the workers that had it before."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again when so many seconds have passed."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Bury:
    """Give up; a person may have it tried again."""


def after_failure(attempts: int, most: int) -> Retry | Bury:
    """The decision after `attempts` failed ones of at most `most`: 2, 4, 8 … seconds apart."""
    if attempts >= most:
        return Bury()
    return Retry(min(2.0**attempts, LONGEST_DELAY_SECONDS))
