"""What a process does before it imports its libraries."""

import gc
import multiprocessing
import sys
from collections.abc import Sequence
from importlib import import_module


def hide_libraries(*names: str) -> None:
    """Make libraries appear not to be installed. Others that import them if they can then do without, and save memory.

    Call it before those others are imported.
    """
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment]


def serve(*, unused: Sequence[str], shared: Sequence[str] = ()) -> None:
    """Run granian, the HTTP server, by the arguments of the command line, without `unused` libraries.

    Its processes share what is loaded before it forks: granian itself, and the libraries in `shared`. Call it in the
    main module, where a process that is spawned does not come.
    """
    # Here, because workers use this module too.
    from granian.cli import entrypoint

    if sys.platform == "linux":  # on macOS, granian spawns its processes, which share nothing
        multiprocessing.set_start_method("fork")
        hide_libraries(*unused)
        for library in shared:
            import_module(library)
        gc.collect()
        gc.freeze()  # a garbage collection would write to what is shared
    entrypoint()  # type: ignore[no-untyped-call]
