"""The doorbell: a Celery task's message that says "there is work", and not what it is.

PostgreSQL is the queue. A bell that is lost costs a few seconds, until the sweep; nothing else depends on it. The
message is put together here by Celery's task protocol (version 2), because that takes a third of the time that an
application's `send_task` takes, and a receiver rings fifty times a second.
"""

import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from kombu.connection import Connection
from kombu.exceptions import KombuError
from kombu.messaging import Producer

QUEUE = "tidings"
JOBS_QUEUE = "tidings.jobs"
"""Of its own: workers take from both in turn, so that much long work stands in nobody's way."""
DELIVERIES_QUEUE = "tidings.deliveries"
"""Of its own: a deliverer is busy for as long as anything is under way."""
DRAIN = "tidings.drain"
VERIFY = "tidings.verify"
TELL = "tidings.tell"
JOBS = "tidings.jobs"
DELIVER = "tidings.deliver"
ASK = "tidings.ask_providers"
# Telling and asking wait for other people's servers, as delivering does: no worker should stand still for them.
QUEUES = {JOBS: JOBS_QUEUE, DELIVER: DELIVERIES_QUEUE, TELL: DELIVERIES_QUEUE, ASK: DELIVERIES_QUEUE}
"""By task; all others are in the one queue."""

_EXPIRES = timedelta(seconds=30)  # a bell that nobody heard by then has been made up for by the sweep
_LOOK_EVERY_RINGS = 100
_MOST_UNHEARD = 1000
"""When nobody listens for hours, so many bells wait in the broker and no more."""
_BROKER_TIMEOUT_SECONDS = 0.5
_ARGUMENTS: tuple[Any, ...] = ((), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})


class Doorbell:
    """Rings for the workers, and gives up at once when the broker does not answer."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
        self._connection = self._dial()
        self._producer: Producer | None = None
        self._rings = 0
        self._unheard: set[str] = set()
        self._lock = threading.Lock()

    def ring(self, task: str = DRAIN) -> bool:
        """Tell the workers to look. False if the broker could not be reached, which costs nothing but time."""
        with self._lock:
            try:
                if self._producer is None:
                    self._producer = Producer(self._connection.default_channel, serializer="json")
                if self._is_heard(self._producer, task):
                    self._publish(self._producer, task)
            except _unreachable(self._connection):
                self._hang_up()
                return False
        return True

    def close(self) -> None:
        """Let go of the connection to the broker."""
        with self._lock:
            self._hang_up()

    def _is_heard(self, producer: Producer, task: str) -> bool:
        """Whether one more bell is of use; looked at now and then, and every time while it is not."""
        queue = QUEUES.get(task, QUEUE)
        self._rings += 1
        if self._rings % _LOOK_EVERY_RINGS == 0 or queue in self._unheard:
            if producer.channel.client.llen(queue) > _MOST_UNHEARD:
                self._unheard.add(queue)
            else:
                self._unheard.discard(queue)
        return queue not in self._unheard

    def _publish(self, producer: Producer, task: str) -> None:
        identity = str(uuid4())
        producer.publish(
            _ARGUMENTS,
            routing_key=QUEUES.get(task, QUEUE),
            headers={
                "lang": "py",
                "task": task,
                "id": identity,
                "root_id": identity,
                "expires": (datetime.now(UTC) + _EXPIRES).isoformat(),
                "ignore_result": True,
            },
            correlation_id=identity,
            delivery_mode="transient",
        )

    def _dial(self) -> Connection:
        # Without every one of these a send to a dead broker blocks for seconds, to a frozen one for ever.
        return Connection(
            self._broker_url,
            connect_timeout=_BROKER_TIMEOUT_SECONDS,
            transport_options={
                "socket_connect_timeout": _BROKER_TIMEOUT_SECONDS,
                "socket_timeout": _BROKER_TIMEOUT_SECONDS,
                "socket_keepalive": True,
                "max_retries": 0,
                "interval_start": 0,
                "interval_step": 0,
                "interval_max": 0,
            },
        )

    def _hang_up(self) -> None:
        self._producer = None
        with suppress(*_unreachable(self._connection)):
            self._connection.release()
        self._connection = self._dial()  # which only happens with the next ring


def _unreachable(connection: Connection) -> tuple[type[Exception], ...]:
    return (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)
