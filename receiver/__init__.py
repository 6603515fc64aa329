"""The receiver: the public endpoint that verifies, stores and acknowledges webhooks."""

from typing import Final

UNUSED_LIBRARIES: Final = ("rich", "yaml")
"""structlog would import rich for coloured tracebacks (4 MB), and kombu would import yaml (1 MB)."""
