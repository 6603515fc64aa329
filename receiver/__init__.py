"""The receiver: the public endpoint that verifies, stores and acknowledges webhooks."""

from typing import Final

UNUSED: Final = ("rich", "yaml")
"""Libraries that are not loaded: structlog imports rich for coloured tracebacks (4 MB), kombu imports yaml (1 MB)."""
