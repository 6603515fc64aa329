"""Work that runs at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def run_together(*tasks: Callable[[], object]) -> None:
    """Run each task in its own thread; raises what one of them raised."""
    with ThreadPoolExecutor(len(tasks)) as threads:
        for done in [threads.submit(task) for task in tasks]:
            done.result()
