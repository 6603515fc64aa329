"""The one hierarchy of errors. Each message is a sentence that says what is wrong and what to do.

Views and commands translate these classes to HTTP answers and exit codes in one place. Add a class only for an error
that some caller handles differently.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from shared.vocabulary import RefusalReason


class TidingsError(Exception):
    """An error that a person or another program can act on; every other exception is a bug."""


class InvalidFieldError(TidingsError):
    """A value that somebody gave cannot be used: HTTP 422, exit code 2.

    `field` is the path of the field as the caller names it (`credentials.api_key`, `headers[0]`); `value` is what was
    given, or None where it is secret. The message says what is allowed.
    """

    def __init__(self, field: str, value: object, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.value = value


class NotFoundError(TidingsError):
    """Something that was named does not exist: HTTP 404."""


class ConflictError(TidingsError):
    """The current state does not allow this: a name that is taken, a job that has ended. HTTP 409."""


class GoneError(TidingsError):
    """Something that was named existed once and was deleted. HTTP 410."""


class LeaseLostError(TidingsError):
    """Another worker has taken over this work; the transaction of this one must not commit."""


class VerificationError(TidingsError):
    """A request that its provider did not sign, or whose signature cannot be checked.

    `key_id` is set when the signature names a key that we do not have (reason UNKNOWN_KEY): such a request
    may be genuine, so it goes to quarantine until the key has been fetched.
    """

    def __init__(self, reason: RefusalReason, message: str, *, key_id: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.key_id = key_id


class PayloadError(TidingsError):
    """An authentic body that is not what its provider documents; its receipt is stored, and ends as `dead`."""


class CredentialsError(TidingsError):
    """Credentials or settings of a source that its provider's adapter cannot use."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean …?` for a name that is unknown, with the nearest one that is known, or an empty text."""
    nearest = get_close_matches(name, list(known), n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, of the driver's where SQLAlchemy wraps it.

    The lines that follow quote statements and values, which do not belong in logs.
    """
    cause = getattr(error, "orig", None) or error
    return str(cause).partition("\n")[0]
