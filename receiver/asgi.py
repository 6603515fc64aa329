"""The receiver on an event loop: `receiver.asgi:app`. The Procfile uses this entry point, because it is the fastest."""

from receiver import wsgi
from shared.http.event_loop import EventLoopBridge
from shared.http.request_body import BodyLimits

BODY_LIMITS = BodyLimits(
    small_bytes=64 * 1024,
    grace_seconds=10.0,
    bytes_per_second=64 * 1024,
    max_held_bytes=128 * 1024 * 1024,
    holds_streams=True,
)

app = EventLoopBridge(wsgi.app, BODY_LIMITS, on_shutdown=wsgi.close)
