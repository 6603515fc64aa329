"""The tasks, one sentence each. All are idempotent: each may be delivered twice, late, or not at all."""

from typing import Any

from celery.signals import worker_shutting_down

from shared.broker import ASK_PROVIDERS, DELIVER, JOBS, PROCESS_RECEIPTS, SEND_NOTIFICATIONS, VERIFY
from workers import asking, context, maintenance, suppressions, sweep, verification
from workers import process_receipts as draining
from workers.alerts import evaluate, notify
from workers.app import app
from workers.concurrency import ConcurrencyLimit
from workers.deliveries import deliverer as deliveries
from workers.jobs import runner as working

# Of a deliverer's four threads, so that there is one for what is delivered however many channels hang; and not
# one only, so that those that do not hang are told.
_TELLING = ConcurrencyLimit(2)


@app.task(name=PROCESS_RECEIPTS)
def drain() -> None:
    """Work on what is pending."""
    draining.drain(context.current())


@app.task(name="tidings.sweep")
def sweep_up() -> None:
    """Ring for what no bell announced, and for what a dead worker left behind."""
    sweep.sweep(context.current())


@app.task(name=VERIFY)
def verify() -> None:
    """Verify what is kept apart."""
    verification.verify(context.current())


@app.task(
    name=JOBS, soft_time_limit=840, time_limit=900
)  # a slice is short, but what must be one transaction may not be
def work_on_jobs() -> None:
    """Get on with long work."""
    working.work(context.current())


@app.task(name=ASK_PROVIDERS)
def ask() -> None:
    """Ask providers: get on with the jobs that need them, and with reconciling the sources that are due."""
    asking.ask_due(context.current())


@app.task(name=SEND_NOTIFICATIONS)
def tell() -> None:
    """Tell people what they have yet to be told."""
    with _TELLING.taken() as is_mine:
        if is_mine:
            notify.send_due(context.current())


@app.task(name="tidings.judge_alerts")
def judge_alerts() -> None:
    """Compare how things are with the rules about alerts."""
    evaluate.evaluate(context.current())


@app.task(name="tidings.tidy_counts")
def tidy_counts() -> None:
    """Add old counts up, and let go of the oldest."""
    evaluate.maintain_counters(context.current())


@app.task(name="tidings.judge_soft_bounces")
def judge_soft_bounces() -> None:
    """Judge the recipients whose mail could not be delivered several times in a row."""
    suppressions.evaluate_soft_bounces(context.current())


@app.task(name="tidings.expire_suppressions")
def expire_suppressions() -> None:
    """Announce the end of suppressions whose time is over."""
    suppressions.expire_due(context.current())


@app.task(name=DELIVER)
def deliver() -> None:
    """Tell subscribers what changed."""
    deliveries.current().deliver()


@worker_shutting_down.connect
def _stop_delivering(**_: Any) -> None:
    deliveries.stop()


@app.task(name="tidings.maintain")
def maintain() -> None:
    """Make partitions ahead, let go of what retention has passed, and look again at who softly bounced."""
    maintenance.maintain(context.current())
    suppressions.maintain(context.current())
