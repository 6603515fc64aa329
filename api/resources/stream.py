"""The log of changes as a stream of server-sent events."""

from typing import Any

from flask import Response, request
from marshmallow import Schema, fields

from api.core import errors
from api.core.auth import TenantAccess
from api.core.resource import Resource, also_answers, answers, takes
from api.resources import change_queries
from api.resources.change_queries import FilterQuery, Gone
from api.streaming import deferred, sse
from api.streaming.deferred import Follow, View
from shared.changes import log as change_log


class StreamQuery(FilterQuery):
    """Which changes, and from where."""

    cursor = fields.String(
        metadata={"description": "Begin behind this change; `0-0`: with the oldest that is kept. Otherwise: now."}
    )


class StreamHeaders(Schema):
    """What whoever connects again sends."""

    last_event_id = fields.String(
        data_key="Last-Event-ID", metadata={"description": "Goes on behind this change; goes before `cursor`."}
    )


class Stream(Resource):
    """The log of changes, as it grows."""

    rule = "/v1/changes/stream"
    tenancy = TenantAccess.OWN

    @takes(StreamHeaders, location="headers")
    @takes(StreamQuery, location="query")
    @answers(200, {"type": "string"}, content_type=sse.CONTENT_TYPE)
    @also_answers(410, schema=Gone, content_type=errors.CONTENT_TYPE, description=change_queries.GONE)
    def get(self, headers: dict[str, Any], query: dict[str, Any]) -> Response:
        """Follow the log: one server-sent event for each change.

        The `event` is the type, the `id` the change's id, the `data` the same object as in `GET /v1/changes`.
        Whoever is too slow, or connected to a process that stops, is cut off, and goes on with `Last-Event-ID`.
        """
        given = headers.get("last_event_id") or query.get("cursor")
        room = deferred.of(request)
        if room.is_full:
            raise change_queries.full()
        try:
            with self.deps.engine.begin() as connection:
                if given is None:
                    after = change_log.end(connection)
                else:
                    after = change_queries.position(given)
                    change_log.require(connection, after)
        except change_log.GoneError as error:
            raise change_queries.gone(error) from None
        if request.method == "GET":
            view = View(
                wanted=change_queries.wanted(query, self.resolve_tenant(query.get("tenant"))), tenant=self.caller.tenant
            )
            is_authorized = self.gate.later(self.caller)
            room.action = Follow(view=view, after=after, caller=self.caller, is_authorized=is_authorized)
        return Response(sse.beginning(after), content_type=sse.CONTENT_TYPE, headers=sse.HEADERS)
