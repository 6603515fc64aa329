"""`python -m workers` is `celery` without libraries that a worker does not use: 9 MB in each process."""

import sys
from types import ModuleType

from celery.__main__ import main

from shared.startup import hide_libraries

if __name__ == "__main__":
    hide_libraries("pygments", "rich")  # Celery and structlog would import them for colours
    shell = ModuleType("click_repl")  # Celery's interactive shell
    shell.register_repl = lambda _group: None  # type: ignore[attr-defined]
    sys.modules["click_repl"] = shell
    main()
