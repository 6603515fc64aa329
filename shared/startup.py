"""What a process does before it imports its libraries."""

import sys


def hide_libraries(*names: str) -> None:
    """Make libraries appear not to be installed. Others that import them if they can then do without, and save memory.

    Call it before those others are imported.
    """
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment]
