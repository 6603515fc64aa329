"""Settings of the usual way, for its view and its tasks."""

import os
from functools import cache

from celery import Celery
from sqlalchemy import ColumnElement, Engine, create_engine, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from bench.usual import QUEUE
from bench.usual.models import SourceRecord
from shared.encryption import Vault
from shared.sources.source import Source, open_source
from shared.sources.store import SourceRow

celery = Celery(
    "usual",
    include=["bench.usual.deliveries"],
    broker=os.environ.get("USUAL_BROKER_URL", "memory://"),
    set_as_current=False,
)
celery.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_pool_limit=int(os.environ.get("USUAL_THREADS", "10")),
)


@cache
def engine() -> Engine:
    """Return the engine of this process: a connection for every thread, and commits that wait for the disk."""
    return create_engine(
        make_url(os.environ["USUAL_DATABASE_URL"]).set(drivername="postgresql+psycopg"),
        pool_size=int(os.environ.get("USUAL_THREADS", "10")),
        # JSON comes as text, from the same normalization that Tidings uses, and is stored as it comes.
        json_serializer=str,
    )


@cache
def source(slug: str) -> Source | None:
    """Return a source by its name, looked up once in the life of a process."""
    return _opened(SourceRecord.slug == slug)


@cache
def source_by_id(source_id: int) -> Source | None:
    """Return a source by its id, looked up once in the life of a process."""
    return _opened(SourceRecord.id == source_id)


def _opened(condition: ColumnElement[bool]) -> Source | None:
    with Session(engine()) as session:
        found = session.scalars(select(SourceRecord).where(condition)).one_or_none()
        if found is None:
            return None
        columns = SourceRow.__dataclass_fields__
        row = SourceRow(**{name: getattr(found, name) for name in columns})
    return open_source(row, vault())


@cache
def vault() -> Vault:
    """Return the decryption key of the secrets."""
    return Vault(os.environ["TIDINGS_SECRET_KEYS"].split(","))
