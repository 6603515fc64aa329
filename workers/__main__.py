"""`python -m workers` is `celery` without libraries that a worker does not use: 9 MB in each process."""

import sys
from types import ModuleType

from celery.__main__ import main

if __name__ == "__main__":
    # structlog would load rich for coloured tracebacks.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
    shell = ModuleType("click_repl")  # Celery's interactive shell
    shell.register_repl = lambda _group: None  # type: ignore[attr-defined]
    sys.modules["click_repl"] = shell
    main()
