"""A job's progress: records its position, and stops the job when its turn is over or it was cancelled."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine

from shared.errors import TidingsError
from shared.jobs import store as jobs
from shared.jobs.store import Advance

LEASE_SECONDS = 60.0
"""If a job records no progress for this long, another worker claims it."""


class JobError(TidingsError):
    """A job that cannot succeed, so it is not retried. Its user sees the message.

    `report` is the job's final report; None leaves the last one.
    """

    def __init__(self, message: str, report: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.report = report


class Interruption(Enum):
    """Why a job must stop."""

    TURN_OVER = auto()
    """It continues from its position later."""
    CANCELLED = auto()
    TAKEN_OVER = auto()
    """Another worker holds it now."""


class InterruptionError(Exception):
    """The job must stop. Not a TidingsError, so that the job's error handling does not catch it."""

    def __init__(self, reason: Interruption) -> None:
        super().__init__(reason.name)
        self.reason = reason


@dataclass(kw_only=True)
class Progress:
    """Records a job's progress. The job calls it after each part of its work, at least every few seconds.

    `until` is when the job's turn ends, by the monotonic clock. `watch` is called with every advance.
    """

    engine: Engine
    job_id: UUID
    token: UUID
    until: float
    watch: Callable[[Advance], None] = field(default=lambda _advance: None)

    def commit(self, done: int, total: int | None = None, position: Mapping[str, Any] | None = None) -> None:
        """Commit the progress, and the position to continue from. Raises InterruptionError."""
        with self.engine.begin() as connection:
            self.record(connection, done, total, position)
        self.end_turn_if_over()

    def record(
        self,
        connection: Connection,
        done: int,
        total: int | None = None,
        position: Mapping[str, Any] | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the progress in the job's own transaction. Until that ends, no other worker can claim the job.

        Raises InterruptionError if the job was cancelled or taken over.
        """
        advance = Advance(done=done, total=total, position=position or {}, report=report or {})
        cancelled = jobs.advance(connection, self.job_id, self.token, advance, lease_seconds=LEASE_SECONDS)
        if cancelled is None:
            raise InterruptionError(Interruption.TAKEN_OVER)
        if cancelled:
            raise InterruptionError(Interruption.CANCELLED)
        self.watch(advance)

    def end_turn_if_over(self) -> None:
        """Raise InterruptionError if the job's turn is over. Call `record` first."""
        if time.monotonic() > self.until:
            raise InterruptionError(Interruption.TURN_OVER)
