"""The one hierarchy of errors. Each message is a sentence that says what to do."""

from shared.vocabulary import RefusalReason


class TidingsError(Exception):
    """Something that Tidings itself has to say; everything else is a bug."""


class VerificationError(TidingsError):
    """A request that its provider did not sign, or not so that we can tell.

    `key_id` is set when the signature names a key that we do not hold (reason UNKNOWN_KEY): such a request
    may be genuine, so it is kept apart until the key has been fetched.
    """

    def __init__(self, reason: RefusalReason, message: str, *, key_id: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.key_id = key_id


class PayloadError(TidingsError):
    """An authentic body that is not what its provider documents; it is kept, and ends as `dead`."""


class CredentialsError(TidingsError):
    """Credentials or settings of a source that its provider's adapter cannot use."""
