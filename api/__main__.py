"""`python -m api` is granian without rich, and its process shares what it has loaded: 6 MB in all."""

import gc
import multiprocessing
import sys

from granian.cli import entrypoint

from shared.startup import hide_libraries

if __name__ == "__main__":  # not in a process that is spawned
    if sys.platform == "linux":  # on macOS, granian spawns its process
        multiprocessing.set_start_method("fork")
        hide_libraries("rich")  # structlog would import it for coloured tracebacks
        gc.collect()
        gc.freeze()  # a garbage collection would write to what is shared
    entrypoint()  # type: ignore[no-untyped-call]
