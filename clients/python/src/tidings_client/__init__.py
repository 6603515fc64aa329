"""A client of Tidings: announce mail, check who may get it, follow what happens, and verify webhooks."""

from tidings_client.api import ApiError, Client
from tidings_client.changes import Change, CursorStore, TakenOverError, consume
from tidings_client.webhooks import VerificationError, verify

__all__ = [
    "ApiError",
    "Change",
    "Client",
    "CursorStore",
    "TakenOverError",
    "VerificationError",
    "consume",
    "verify",
]
