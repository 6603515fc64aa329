"""`python -m workers` is `celery` without the libraries of its interactive shell: 6 MB in each process."""

import sys
from types import ModuleType

from celery.__main__ import main

if __name__ == "__main__":
    shell = ModuleType("click_repl")
    shell.register_repl = lambda _group: None  # type: ignore[attr-defined]
    sys.modules["click_repl"] = shell
    main()
