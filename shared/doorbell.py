"""The doorbell: a Celery message that says "there is work", and not what it is.

PostgreSQL is the queue. A bell that is lost costs a few seconds, until the sweep; nothing else depends on it.
"""

from celery import Celery
from kombu.exceptions import OperationalError

QUEUE = "tidings"
DRAIN = "tidings.drain"
VERIFY = "tidings.verify"
_EXPIRES_SECONDS = 30  # a bell that nobody heard by then has been made up for by the sweep
_BROKER_TIMEOUT_SECONDS = 0.5


class Doorbell:
    """Rings for the workers, and gives up at once when the broker does not answer."""

    def __init__(self, broker_url: str) -> None:
        self._celery = Celery("tidings-bell", broker=broker_url, set_as_current=False)
        # Without every one of these a send to a dead broker blocks for seconds, to a frozen one for ever.
        self._celery.conf.update(
            task_publish_retry=False,
            task_ignore_result=True,
            broker_pool_limit=2,
            broker_pool_acquire_timeout=_BROKER_TIMEOUT_SECONDS,
            broker_transport_options={
                "socket_connect_timeout": _BROKER_TIMEOUT_SECONDS,
                "socket_timeout": _BROKER_TIMEOUT_SECONDS,
                "socket_keepalive": True,
                "max_retries": 0,
                "interval_start": 0,
                "interval_step": 0,
                "interval_max": 0,
            },
        )

    def ring(self, task: str = DRAIN) -> bool:
        """Tell the workers to look. False if the broker could not be reached, which costs nothing but time."""
        try:
            self._celery.send_task(task, queue=QUEUE, expires=_EXPIRES_SECONDS, ignore_result=True)
        except (OperationalError, OSError):
            return False
        return True

    def close(self) -> None:
        """Let go of the connections to the broker."""
        self._celery.close()
