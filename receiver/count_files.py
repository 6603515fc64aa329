"""Where the processes of one server keep their counts, for any of them to tell: before prometheus_client is loaded."""

import os
import shutil
import tempfile
from pathlib import Path

_NAME = "tidings-receiver-"


def use() -> None:
    """Have this process, and the others of its parent, count there.

    Nobody removes the place of a server that runs: a process that ends is followed by another. What servers have left
    that run no more is removed.
    """
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{_NAME}*"):
        if not _is_running(left.name.removeprefix(_NAME)):
            shutil.rmtree(left, ignore_errors=True)
    counts = place / f"{_NAME}{os.getppid()}"
    counts.mkdir(exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counts)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True
