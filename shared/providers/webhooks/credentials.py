"""Parsing of a source's credentials; every error is a CredentialsError that names the field."""

from collections.abc import Mapping
from typing import Any

from shared.errors import CredentialsError


def read_secret(raw: Mapping[str, Any], name: str) -> str:
    """Return a required text. Raises CredentialsError: a source without its secret would accept every request."""
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        raise CredentialsError(f"`{name}` must be a non-empty string")
    return value


def read_optional(raw: Mapping[str, Any], name: str) -> str | None:
    """Return an optional text. Raises CredentialsError."""
    return None if raw.get(name) is None else read_secret(raw, name)


def read_texts(raw: Mapping[str, Any], name: str, *, required: bool) -> Mapping[str, str]:
    """Return an object of texts, such as keys by their ids. Raises CredentialsError."""
    value = raw.get(name)
    if value is None and not required:
        return {}
    if not isinstance(value, Mapping) or not all(
        isinstance(key, str) and key and isinstance(text, str) and text for key, text in value.items()
    ):
        raise CredentialsError(f"`{name}` must be an object whose keys and values are non-empty strings")
    if required and not value:
        raise CredentialsError(f"`{name}` must not be empty")
    return value
