"""Files of jobs, in parts: what a job reads, and what it makes for whoever asked for it."""

from collections.abc import Iterator
from uuid import UUID

from sqlalchemy import Connection

INPUT = "input"
OUTPUT = "output"


def write(connection: Connection, job_id: UUID, name: str, part: int, content: bytes) -> None:
    """Write a part, from 0 on; one that was written before is replaced, so that a repeated step does no harm."""
    connection.exec_driver_sql(
        "INSERT INTO job_files (job_id, name, part, content) VALUES (%(id)s, %(name)s, %(part)s, %(content)s)"
        " ON CONFLICT (job_id, name, part) DO UPDATE SET content = excluded.content",
        {"id": job_id, "name": name, "part": part, "content": content},
    )


def read(connection: Connection, job_id: UUID, name: str, part: int) -> bytes | None:
    """A part; None behind the last one."""
    content = connection.exec_driver_sql(
        "SELECT content FROM job_files WHERE job_id = %(id)s AND name = %(name)s AND part = %(part)s",
        {"id": job_id, "name": name, "part": part},
    ).scalar()
    return None if content is None else bytes(content)


def parts(connection: Connection, job_id: UUID, name: str) -> Iterator[bytes]:
    """All parts, in their order, one at a time in memory."""
    part = 0
    while (content := read(connection, job_id, name, part)) is not None:
        yield content
        part += 1


def count(connection: Connection, job_id: UUID, name: str) -> int:
    """How many parts there are."""
    found: int = connection.exec_driver_sql(
        "SELECT count(*) FROM job_files WHERE job_id = %(id)s AND name = %(name)s", {"id": job_id, "name": name}
    ).scalar_one()
    return found
