"""Wake-ups: Celery tasks without arguments that make workers look for work in PostgreSQL.

PostgreSQL is the queue. A lost wake-up only delays work by a few seconds, until the next periodic task.
"""

import threading
from contextlib import suppress
from typing import Final, NoReturn

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import ChannelError
from kombu.messaging import Producer

QUEUE: Final = "tidings"
JOBS_QUEUE: Final = "tidings.jobs"
"""A separate queue, so that many jobs do not delay other tasks: workers alternate between the queues."""
DELIVERIES_QUEUE: Final = "tidings.deliveries"
"""A separate queue, with its own workers: a deliver task runs as long as a request is in flight."""
PROCESS_RECEIPTS: Final = "tidings.process_receipts"
REPROCESS: Final = "tidings.reprocess"
VERIFY: Final = "tidings.verify"
SEND_NOTIFICATIONS: Final = "tidings.send_notifications"
JOBS: Final = "tidings.jobs"
DELIVER: Final = "tidings.deliver"
CALL_PROVIDERS: Final = "tidings.call_providers"
PULL: Final = "tidings.pull"
# Notifications and calls to providers wait for external servers, as deliveries do, so they share that queue.
QUEUES: Final = {
    JOBS: JOBS_QUEUE,
    DELIVER: DELIVERIES_QUEUE,
    SEND_NOTIFICATIONS: DELIVERIES_QUEUE,
    CALL_PROVIDERS: DELIVERIES_QUEUE,
    VERIFY: DELIVERIES_QUEUE,  # it calls key servers, which may hang
    PULL: DELIVERIES_QUEUE,
}
"""The queue of each task; all other tasks are in `QUEUE`."""

EXPIRY_SECONDS: Final = 30.0
"""After this time a periodic task has done the work, so the wake-up is obsolete."""

_PROBE_QUEUE = "tidings.probe"
_CHECK_EVERY = 100
_MAX_WAITING = 1000
_BROKER_TIMEOUT_SECONDS = 0.5


def refuse_blocked(reason: str) -> NoReturn:
    """Raise an error: RabbitMQ reads nothing more from a connection that it blocks, because of an alarm."""
    raise ConnectionError(f"RabbitMQ is short of memory or disk space and takes no messages ({reason})")


class TaskNotifier:
    """Sends wake-ups. It fails fast if the broker does not respond."""

    def __init__(self, broker_url: str, *, expiry_seconds: float = EXPIRY_SECONDS) -> None:
        self._celery = Celery("tidings", broker=broker_url, set_as_current=False)
        # Without all of these, a send to a stopped broker blocks for seconds, and to a frozen one for ever.
        self._celery.conf.update(
            task_serializer="json",
            task_ignore_result=True,
            task_publish_retry=False,
            task_default_delivery_mode="transient",
            broker_connection_timeout=_BROKER_TIMEOUT_SECONDS,
            broker_transport_options={
                "socket_connect_timeout": _BROKER_TIMEOUT_SECONDS,
                "socket_timeout": _BROKER_TIMEOUT_SECONDS,
                "socket_keepalive": True,
                "read_timeout": _BROKER_TIMEOUT_SECONDS,
                "write_timeout": _BROKER_TIMEOUT_SECONDS,
                "on_blocked": refuse_blocked,
                "max_retries": 0,
                "interval_start": 0,
                "interval_step": 0,
                "interval_max": 0,
            },
        )
        self._expiry_seconds = expiry_seconds
        self._queues = {name: Queue(name, routing_key=name) for name in (QUEUE, *QUEUES.values())}
        self._producer: Producer | None = None
        self._sent = 0
        self._full: set[str] = set()
        self._lock = threading.Lock()

    def notify(self, task: str = PROCESS_RECEIPTS) -> bool:
        """Wake the workers of a task. Return False if the broker cannot be reached."""
        queue = self._queues[QUEUES.get(task, QUEUE)]
        with self._lock:
            try:
                producer = self._connect()
                if self._has_room(producer, queue.name):
                    self._celery.send_task(task, producer=producer, queue=queue, expires=self._expiry_seconds)
            except Exception:  # noqa: BLE001 - whatever a transport raises: what the wake-up is for is committed
                self._disconnect()
                return False
        return True

    def find_problem(self) -> str | None:
        """Return why the broker does not take a message now; None if it takes one."""
        with self._lock:
            try:
                producer = self._connect()
                producer.channel.queue_declare(_PROBE_QUEUE, durable=False, auto_delete=True)
                producer.publish("", exchange="", routing_key=_PROBE_QUEUE)
                producer.channel.queue_purge(_PROBE_QUEUE)
            except Exception as error:  # noqa: BLE001 - as above
                self._disconnect()
                return str(error).partition("\n")[0] or type(error).__name__
        return None

    def close(self) -> None:
        """Close the connection to the broker."""
        with self._lock:
            self._disconnect()
        self._celery.close()

    def _connect(self) -> Producer:
        if self._producer is None:
            # Not from Celery's pool, which would return a broken connection again.
            self._producer = self._celery.amqp.Producer(self._celery.connection_for_write(), auto_declare=False)
        return self._producer

    def _disconnect(self) -> None:
        if self._producer is not None:
            with suppress(Exception):
                self._producer.connection.release()
            self._producer = None

    def _has_room(self, producer: Producer, queue: str) -> bool:
        """Return whether the queue has at most 1000 wake-ups. Checked at every 100th send, and always while it is full.

        Without this limit, wake-ups would accumulate while no worker runs.
        """
        self._sent += 1
        if self._sent % _CHECK_EVERY == 0 or queue in self._full:
            try:
                waiting = int(producer.channel.queue_declare(queue, passive=True).message_count)
            except ChannelError:  # the queue does not exist
                waiting = 0
            if waiting > _MAX_WAITING:
                self._full.add(queue)
            else:
                self._full.discard(queue)
        return queue not in self._full
