"""The Celery application of the scheduler: `celery -A workers.beat beat --scheduler workers.beat:Scheduler`.

It sends the periodic tasks by name and imports none of them, which saves memory. `configure` is the configuration of
workers too.
"""

import os
from typing import Any

from celery import Celery, beat
from celery.signals import setup_logging
from kombu.entity import Queue

from shared import logs, settings
from shared.broker import CALL_PROVIDERS, DELIVER, JOBS, PULL, QUEUE, QUEUES, SEND_NOTIFICATIONS, VERIFY

# Without the database's URL: reading it loads the database's libraries, of 18 MB, which beat does not need.
configuration = settings.read({**os.environ, "TIDINGS_DATABASE_URL": ""})
configuration.require("broker_url")


class Scheduler(beat.Scheduler):  # type: ignore[misc]
    """Celery's scheduler without the file of last runs: two copies do no harm, and neither does a restart.

    Celery wakes 10 ms before a task is due, and then looks without a pause until it is: a sixth of the CPU of an idle
    system.
    """

    def adjust(self, n: float | None, drift: float = 0.0) -> Any:
        """Return in how many seconds to wake for a task that is due in `n` seconds."""
        return super().adjust(n, drift)


def configure(app: Celery) -> None:
    """Set what all Celery processes have in common."""
    app.conf.update(
        # Tasks are not acknowledged: PostgreSQL is the queue, and the periodic tasks make up for a lost message. If an
        # acknowledgement failed while the broker is unreachable, the message would occupy the prefetch window (of one)
        # for ever. Then kombu stops polling and does not notice the lost connection, and the worker receives nothing.
        task_queues=[Queue(name, routing_key=name, no_ack=True) for name in (QUEUE, *QUEUES.values())],  # type: ignore[no-untyped-call]
        task_default_queue=QUEUE,
        task_routes={task: {"queue": queue} for task, queue in QUEUES.items()},
        task_ignore_result=True,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        task_soft_time_limit=90,
        task_time_limit=120,  # below the visibility timeout, so that no task runs twice at once
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_soft_shutdown_timeout=10,
        worker_max_tasks_per_child=100_000,
        worker_max_memory_per_child=300_000,  # KiB
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_transport_options={
            "visibility_timeout": 600,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        # Tasks that wake-ups start too are due every 8 s at most. If wake-ups are lost, the clock of a process starts
        # them within 15 s: after these 8 s, its grace, and one of its ticks.
        beat_schedule={
            "sweep": {"task": "tidings.sweep", "schedule": 8.0, "options": {"expires": 10}},
            "verify": {"task": VERIFY, "schedule": 8.0, "options": {"expires": 10}},
            "jobs": {"task": JOBS, "schedule": 8.0, "options": {"expires": 10}},
            "deliver": {"task": DELIVER, "schedule": 8.0, "options": {"expires": 10}},
            "call providers": {"task": CALL_PROVIDERS, "schedule": 8.0, "options": {"expires": 10}},
            "queues": {"task": PULL, "schedule": 8.0, "options": {"expires": 10}},
            "send notifications": {"task": SEND_NOTIFICATIONS, "schedule": 8.0, "options": {"expires": 10}},
            "alerts": {"task": "tidings.judge_alerts", "schedule": 10.0, "options": {"expires": 20}},
            "soft bounces": {"task": "tidings.judge_soft_bounces", "schedule": 8.0, "options": {"expires": 10}},
            "mass failures": {"task": "tidings.withdraw_mass_failures", "schedule": 60.0, "options": {"expires": 60}},
            "expiry": {"task": "tidings.expire_suppressions", "schedule": 15.0, "options": {"expires": 30}},
            "suppression lists": {"task": "tidings.schedule_pulls", "schedule": 60.0, "options": {"expires": 60}},
            "search": {"task": "tidings.index_messages", "schedule": 10.0, "options": {"expires": 10}},
            "counts": {"task": "tidings.tidy_counts", "schedule": 600.0, "options": {"expires": 600}},
            "maintain": {"task": "tidings.maintain", "schedule": 3600.0, "options": {"expires": 1800}},
        },
    )


app = Celery("tidings", broker=configuration.broker_url, set_as_current=False)  # workers import this module too
configure(app)


@setup_logging.connect
def _configure_logs(**_: Any) -> None:
    logs.configure(configuration.log_level)
