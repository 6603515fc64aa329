"""The machine and the versions of a measurement."""

import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Final

import psycopg
import redis

_PACKAGES: Final = ("granian", "gunicorn", "flask", "celery", "kombu", "sqlalchemy", "psycopg", "redis")
_WAL_PAGE: Final = b"\0" * 8192
_SYNCS: Final = 100
_GIB: Final = 1024**3


def facts(database_url: str, broker_url: str, directory: Path) -> dict[str, str]:
    """Return the machine and the versions, by name."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "machine": f"{os.cpu_count()} x {_processor()}, {pages * page / _GIB:.0f} GiB of memory",
        "disk": f"{sync_seconds(directory) * 1000:.2f} ms to write 8 KiB and sync it (median of {_SYNCS})",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": _postgres(database_url),
        "broker": _broker(broker_url),
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES),
    }


def sync_seconds(directory: Path) -> float:
    """Return the duration of a durable write: the minimum of a commit."""
    path = directory / "sync"
    taken = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(_SYNCS):
            begin = time.perf_counter()
            os.pwrite(descriptor, _WAL_PAGE, 0)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - begin)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(taken)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _postgres(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT current_setting('server_version')").fetchone()
        return str(row[0]) if row else "?"


def _broker(url: str) -> str:
    with redis.Redis.from_url(url) as client:
        info = client.info("server")
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
