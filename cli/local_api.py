"""The API inside a command: the same paths, filters, checks and answers, without a server or a key.

Decision 51 says why lists are read this way.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import msgspec
from sqlalchemy import select

from api.app import create_app
from api.core.resource import Deps
from cli.context import CommandContext
from shared import json_text
from shared.broker import TaskNotifier
from shared.encryption import Vault, new_key
from shared.errors import InvalidFieldError, TidingsError
from shared.sources.tables import sources

_PAGE = 500


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    next_cursor: str | None


class LocalApi:
    """Answers GET requests from the database of a command."""

    def __init__(self, ctx: CommandContext) -> None:
        with ctx.engine.connect() as connection:  # a command explains better than an answer why it cannot be used
            connection.execute(select(sources.c.id).limit(0))
        key = secrets.token_urlsafe()
        deps = Deps(
            settings=replace(ctx.settings, admin_key=key, api_rate=0),
            engine=ctx.engine,
            vault=Vault(ctx.secret_keys or [new_key()]),  # what is listed has no secrets
            notifier=ctx.notifier or TaskNotifier("memory://"),  # reading wakes nobody
        )
        self._client = create_app(deps).test_client()
        self._headers = {"Authorization": f"Bearer {key}"}

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> bytes:
        """Return the JSON of an answer. Raises InvalidFieldError with the option that is wrong, or TidingsError."""
        given = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in (query or {}).items()
        }
        answer = self._client.get(path, query_string=given, headers=self._headers)
        body: bytes = answer.data
        if answer.status_code == HTTPStatus.OK:
            return body
        problem = msgspec.json.decode(body)
        for name, messages in problem.get("errors", {}).items():
            option = "--" + name.replace("_", "-")
            raise InvalidFieldError(option, given.get(name), f"{option}: {' '.join(messages)}")
        raise TidingsError(problem["detail"])

    def list_pages(
        self, path: str, query: Mapping[str, Any], limit: int
    ) -> Iterator[tuple[list[msgspec.Raw], str | None]]:
        """Yield the pages of a list, up to `limit` items in all: items as JSON, and the cursor of what follows.

        The cursor of the last page is None if nothing follows. That of the change log is where to continue later.
        """
        cursor, left = query.get("cursor"), limit
        while left:
            page_query = {**query, "limit": min(left, _PAGE), **({"cursor": cursor} if cursor else {})}
            page = msgspec.json.decode(json_text.clean(self.get(path, page_query)), type=_Page)
            left -= len(page.items)
            yield page.items, page.next_cursor
            if page.next_cursor in (None, cursor):
                return
            cursor = page.next_cursor
