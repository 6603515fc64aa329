"""JSON as the API writes it: times in UTC with a Z, and a provider's own JSON passed through as it was received."""

from typing import Any

import msgspec
from flask.json.provider import JSONProvider
from flask.wrappers import Response


class Encoding(JSONProvider):
    """Flask's JSON by msgspec: it knows UUID and datetime, and `msgspec.Raw` is JSON already."""

    def dumps(self, obj: Any, **_kwargs: Any) -> str:
        """The JSON text of a value."""
        return msgspec.json.encode(obj).decode()

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        """The value of a JSON text."""
        return msgspec.json.decode(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """An answer whose body is this value."""
        return Response(msgspec.json.encode(self._prepare_response_obj(args, kwargs)), mimetype="application/json")
