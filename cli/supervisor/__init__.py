"""Starts the processes of the Procfile and keeps them running."""

from shared.errors import TidingsError


class StartError(TidingsError):
    """A process or server cannot be started; the message gives the reason or the end of its log."""
