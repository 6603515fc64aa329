"""The Celery tasks. All are idempotent: a task may run twice, late, or not at all."""

import os
import signal
from typing import Any

import structlog
from celery.signals import worker_shutting_down

from shared.broker import CALL_PROVIDERS, DELIVER, JOBS, PROCESS_RECEIPTS, PULL, REPROCESS, SEND_NOTIFICATIONS, VERIFY
from workers import (
    context,
    maintenance,
    process_receipts,
    pull,
    reconcile,
    reprocess_receipts,
    suppressions,
    verification,
)
from workers.alerts import evaluate, notify
from workers.app import app
from workers.context import ConcurrencyLimit
from workers.deliveries import deliverer
from workers.jobs import runner

log = structlog.get_logger()

# Three of a deliverer's six threads at most, so that channels and key servers that hang block no deliveries.
_NOTIFYING = ConcurrencyLimit(2)
_VERIFYING = ConcurrencyLimit(1)


@app.task(name=PROCESS_RECEIPTS)
def process() -> None:
    """Process stored receipts."""
    process_receipts.process_due(context.current())


@app.task(name=REPROCESS)
def reprocess() -> None:
    """Reprocess the receipts that were queued for it."""
    reprocess_receipts.reprocess_due(context.current())


@app.task(name="tidings.sweep")
def sweep() -> None:
    """Process receipts whose wake-up was lost or whose worker died."""
    process_receipts.process_due(context.current())
    reprocess_receipts.reprocess_due(context.current())


@app.task(name=VERIFY)
def verify() -> None:
    """Verify quarantined requests again."""
    with _VERIFYING.try_acquire() as is_acquired:
        if is_acquired:
            verification.verify_due(context.current())


# A turn is short, but a single transaction of a job may take minutes.
@app.task(name=JOBS, soft_time_limit=840, time_limit=900)
def run_jobs() -> None:
    """Run due jobs, each for a turn of a few seconds."""
    runner.run_due(context.current())


@app.task(name=CALL_PROVIDERS)
def call_providers() -> None:
    """Run the jobs that call providers' APIs, and reconcile the sources that are due."""
    reconcile.call_providers(context.current())


@app.task(name=PULL)
def pull_queues() -> None:
    """Take the messages of sources from their queues."""
    pull.pull_due(context.current())


@app.task(name=SEND_NOTIFICATIONS)
def send_notifications() -> None:
    """Send the alert notifications that are due."""
    with _NOTIFYING.try_acquire() as is_acquired:
        if is_acquired:
            notify.send_due(context.current())


@app.task(name="tidings.judge_alerts")
def evaluate_alerts() -> None:
    """Evaluate the alert rules."""
    evaluate.evaluate(context.current())


@app.task(name="tidings.tidy_counts")
def maintain_counters() -> None:
    """Merge old counters, and delete expired ones."""
    evaluate.maintain_counters(context.current())


@app.task(name="tidings.index_messages")
def index_messages() -> None:
    """Compute the signatures by which new messages are found in a search."""
    maintenance.index_messages(context.current())


@app.task(name="tidings.judge_soft_bounces")
def evaluate_soft_bounces() -> None:
    """Evaluate the recipients with several soft bounces in a row."""
    suppressions.evaluate_soft_bounces(context.current())


@app.task(name="tidings.withdraw_mass_failures")
def withdraw_mass_failures() -> None:
    """Withdraw suppressions whose evidence turned out to be mass failures: the sender is at fault."""
    suppressions.withdraw_mass_failures(context.current())


@app.task(name="tidings.expire_suppressions")
def expire_suppressions() -> None:
    """Log the end of suppressions that have expired."""
    suppressions.expire_due(context.current())


@app.task(name="tidings.schedule_pulls")
def schedule_pulls() -> None:
    """Create the jobs that pull the suppression lists of providers, where a pull is due."""
    suppressions.schedule_pulls(context.current())


@app.task(name=DELIVER)
def deliver() -> None:
    """Deliver changes to subscribers."""
    try:
        deliverer.current().deliver()
    except MemoryError:
        # Celery replaces no process of threads. Leases of what was in flight expire, and another process sends it.
        log.exception("the deliverer has used up its memory, so it stops to be started again")
        os.kill(os.getpid(), signal.SIGTERM)


@worker_shutting_down.connect
def _stop_delivering(**_: Any) -> None:
    deliverer.stop()
    pull.stopping.set()


@app.task(name="tidings.maintain")
def maintain() -> None:
    """Create partitions ahead, delete what is older than retention, and review soft bounces."""
    maintenance.maintain(context.current())
    suppressions.maintain(context.current())


# The names that the previous version sends, until the next one. Celery rejects messages of tasks that it does not know,
# and RabbitMQ closes a channel that rejects a message of a queue without acknowledgements.
for _name, _task in (
    ("tidings.drain", process),
    ("tidings.tell", send_notifications),
    ("tidings.ask_providers", call_providers),
):
    app.task(_task.run, name=_name)
