"""Memory and CPU use of processes, from Linux's /proc."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.supervisor import process_groups

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024
_MB = 1_000_000
_PARENT, _USER_TIME, _SYSTEM_TIME = 1, 11, 12  # fields of /proc/PID/stat behind the name
_BOOKKEEPING = "multiprocessing.resource_tracker"


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in megabytes: resident, and proportional (shared pages shared out) where it can be read.

    `shared_memory` is the part of the proportional memory that is in no file, such as PostgreSQL's buffers.
    """

    resident: float
    proportional: float | None
    shared_memory: float = 0.0


def memory(pid: int) -> Memory:
    """Return the memory of a process."""
    fields = _sizes(_PROC / str(pid) / "status")
    try:
        rollup = _sizes(_PROC / str(pid) / "smaps_rollup")
    except PermissionError:
        rollup = {}
    return Memory(fields["VmRSS"], rollup.get("Pss"), rollup.get("Pss_Shmem", 0.0))


def processes(leader: int) -> list[int]:
    """Return the main process and those that do its work."""
    return [pid for pid in process_groups.members(leader) if _BOOKKEEPING not in process_groups.command_of(pid)]


def children(parent: int) -> list[int]:
    """Return the direct children of a process."""
    numbers = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())
    return [pid for pid in numbers if (stat := _stat(pid)) and int(stat[_PARENT]) == parent]


def cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    """Return the CPU seconds of each process since its start."""
    found = {}
    for pid in pids:
        if stat := _stat(pid):
            found[pid] = (int(stat[_USER_TIME]) + int(stat[_SYSTEM_TIME])) / _TICKS
    return found


def used_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Return the processor seconds used between two readings; processes that ended meanwhile are not seen."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def _sizes(path: Path) -> dict[str, float]:
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.split()[0]) * _KIB / _MB
    return found


def _stat(pid: int) -> list[str] | None:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
