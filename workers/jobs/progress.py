"""How a job tells how far it has got, and hears whether to go on."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine

from shared.errors import TidingsError
from shared.jobs import store as jobs
from shared.jobs.store import Advance

LEASE_SECONDS = 60.0
"""How long a job may go on without a word before another worker takes it up."""


class JobError(TidingsError):
    """Why a job cannot be done, however often it is tried; the message is for whoever asked for it.

    `report` is what it says of itself besides; None leaves what it said last.
    """

    def __init__(self, message: str, report: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.report = report


class InterruptionError(Exception):
    """A job must stop here. None of our errors, so that nobody who handles those stops it."""


class TurnOverError(InterruptionError):
    """It is others' turn; the job goes on from its position later."""


class CancelledError(InterruptionError):
    """Somebody asked for it to be cancelled."""


class LeaseLostError(InterruptionError):
    """Another worker has taken over."""


@dataclass(kw_only=True)
class Progress:
    """What a job calls whenever it has done a piece of its work, every few seconds at least.

    `until` is when its turn is over, by the monotonic clock. `watch` sees every advance.
    """

    engine: Engine
    job_id: UUID
    token: UUID
    until: float
    watch: Callable[[Advance], None] = field(default=lambda _advance: None)

    def __call__(
        self,
        done: int,
        total: int | None = None,
        position: Mapping[str, Any] | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        """Commit how far the job has got, and the position from which it goes on. Raises InterruptionError."""
        with self.engine.begin() as connection:
            self.note(connection, done, total, position, report)
        self.give_way()

    def note(
        self,
        connection: Connection,
        done: int,
        total: int | None = None,
        position: Mapping[str, Any] | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        """The same as part of the job's own transaction. From here to its end no other worker can take the job.

        Raises LeaseLostError or CancelledError.
        """
        advance = Advance(done=done, total=total, position=position or {}, report=report or {})
        cancelled = jobs.advance(connection, self.job_id, self.token, advance, lease_seconds=LEASE_SECONDS)
        if cancelled is None:
            raise LeaseLostError
        if cancelled:
            raise CancelledError
        self.watch(advance)

    def give_way(self) -> None:
        """Raise TurnOverError if it is others' turn; what is to be kept has been noted before."""
        if time.monotonic() > self.until:
            raise TurnOverError
