"""The tasks, one sentence each. All are idempotent: each may be delivered twice, late, or not at all."""

from shared.doorbell import DRAIN, VERIFY
from workers import drain as draining
from workers import maintenance, rim, sweep, verification
from workers.app import app


@app.task(name=DRAIN)
def drain() -> None:
    """Work on what is pending."""
    draining.drain(rim.current())


@app.task(name="tidings.sweep")
def sweep_up() -> None:
    """Ring for what no bell announced, and for what a dead worker left behind."""
    sweep.sweep(rim.current())


@app.task(name=VERIFY)
def verify() -> None:
    """Verify what is kept apart."""
    verification.verify(rim.current())


@app.task(name="tidings.maintain")
def maintain() -> None:
    """Make partitions ahead, and let go of what retention has passed."""
    maintenance.maintain(rim.current())
