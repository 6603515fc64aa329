"""The Celery application: `celery -A workers.app worker` and `… beat`."""

import resource
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from celery import Celery
from celery.signals import setup_logging, worker_init
from kombu.entity import Queue

from shared import logs, settings
from shared.broker import CALL_PROVIDERS, DELIVER, JOBS, QUEUE, QUEUES, SEND_NOTIFICATIONS, VERIFY
from shared.errors import TidingsError
from shared.rules.reloader import require_rules
from workers import clock
from workers.coalescing import WakeUpTask

_MAX_ALLOCATED_BYTES: Final = 512 * 1024 * 1024

_configuration = settings.read()
_configuration.require("broker_url")

app = Celery("tidings", broker=_configuration.broker_url, include=["workers.tasks"], task_cls=WakeUpTask)
app.conf.update(
    # Tasks are not acknowledged: PostgreSQL is the queue, and the periodic tasks make up for a lost message. If an
    # acknowledgement failed while the broker is unreachable, the message would occupy the prefetch window (of one) for
    # ever. Then kombu stops polling and does not notice the lost connection, and the worker receives nothing.
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
    beat_schedule={
        "sweep": {"task": "tidings.sweep", "schedule": 3.0, "options": {"expires": 10}},
        "verify": {"task": VERIFY, "schedule": 5.0, "options": {"expires": 10}},
        "jobs": {"task": JOBS, "schedule": 5.0, "options": {"expires": 10}},
        "deliver": {"task": DELIVER, "schedule": 3.0, "options": {"expires": 10}},
        "call providers": {"task": CALL_PROVIDERS, "schedule": 5.0, "options": {"expires": 10}},
        "send notifications": {"task": SEND_NOTIFICATIONS, "schedule": 5.0, "options": {"expires": 10}},
        "alerts": {"task": "tidings.judge_alerts", "schedule": 10.0, "options": {"expires": 20}},
        "soft bounces": {"task": "tidings.judge_soft_bounces", "schedule": 5.0, "options": {"expires": 10}},
        "expiry": {"task": "tidings.expire_suppressions", "schedule": 15.0, "options": {"expires": 30}},
        "counts": {"task": "tidings.tidy_counts", "schedule": 600.0, "options": {"expires": 600}},
        "maintain": {"task": "tidings.maintain", "schedule": 3600.0, "options": {"expires": 1800}},
    },
)
clock.install(app)


@worker_init.connect
def _require_rules(**_: Any) -> None:
    try:
        require_rules(_configuration.rules, _configuration.database_url)
    except TidingsError as error:
        raise SystemExit(f"Error: the rules file is invalid, and no earlier version was accepted:\n{error}") from None


@worker_init.connect
def _limit_memory(**_: Any) -> None:
    """Limit the memory that this process and its children may allocate beyond what they start with.

    An allocation beyond it raises MemoryError, which ends the receipt and not the process. Without the limit, the
    kernel would kill the process, or another one. Not RLIMIT_AS: it counts what threads and libraries only reserve.
    """
    with suppress(OSError, ValueError):  # no /proc, or a lower hard limit
        allocated = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (allocated + _MAX_ALLOCATED_BYTES, hard))


@setup_logging.connect
def _configure_logs(**_: Any) -> None:
    logs.configure(_configuration.log_level)
