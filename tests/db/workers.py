"""Workers that are all at it at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def together(*tasks: Callable[[], object]) -> None:
    """Do each in a thread of its own; raises what one of them raised."""
    with ThreadPoolExecutor(len(tasks)) as threads:
        for done in [threads.submit(task) for task in tasks]:
            done.result()
