"""Files of jobs, stored in parts: the input that a job reads, and the output that a user downloads."""

from collections.abc import Iterator
from uuid import UUID

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from shared.jobs.tables import job_files

INPUT = "input"
OUTPUT = "output"


def write(connection: Connection, job_id: UUID, name: str, part: int, content: bytes) -> None:
    """Write a part, counting from 0. Replaces a part that exists, so that a step can be repeated."""
    statement = insert(job_files).values(job_id=job_id, name=name, part=part, content=content)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["job_id", "name", "part"], set_={"content": statement.excluded.content}
        )
    )


def read(connection: Connection, job_id: UUID, name: str, part: int) -> bytes | None:
    """Return a part; None after the last one."""
    return connection.scalar(
        select(job_files.c.content).where(
            job_files.c.job_id == job_id, job_files.c.name == name, job_files.c.part == part
        )
    )


def parts(connection: Connection, job_id: UUID, name: str) -> Iterator[bytes]:
    """Yield all parts in order, one at a time in memory."""
    part = 0
    while (content := read(connection, job_id, name, part)) is not None:
        yield content
        part += 1


def count(connection: Connection, job_id: UUID, name: str) -> int:
    """Return the number of parts."""
    statement = select(func.count()).where(job_files.c.job_id == job_id, job_files.c.name == name)
    return connection.execute(statement).scalar_one()
