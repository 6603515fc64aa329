"""What the processes agree on: the domain, the providers' dialects, the database and the settings."""

import sys

# structlog imports rich for coloured tracebacks, if it is installed: 3 MB in each process.
if not {"rich", "structlog"} & set(sys.modules):
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
