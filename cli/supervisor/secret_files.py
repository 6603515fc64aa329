"""Secrets that Tidings makes for itself: one file each in its data directory, readable by its owner only."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def new() -> str:
    """A secret that nobody will guess, of characters that need no quoting in a URL."""
    return secrets.token_urlsafe(24)


def keep(path: Path, make: Callable[[], str] = new) -> str:
    """The secret in this file; made, and kept there with mode 0600, if there is none yet."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        write(draft, make())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # whole or not at all, and never over one that somebody just made
        draft.unlink()
    return path.read_text().strip()


def write(path: Path, secret: str) -> None:
    """Write a secret to a file that only its owner can read; one that was there is replaced."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
