"""The usual view: verify, insert, commit, send a task. What gunicorn runs is `bench.usual.view:app`."""

from datetime import UTC, datetime

import msgspec
from flask import Flask, Response, request
from sqlalchemy.orm import Session

from bench.usual.models import ReceiptRecord
from bench.usual.settings import celery, engine, source
from shared import ids
from shared.errors import VerificationError
from shared.providers.webhooks.base import WebhookRequest
from shared.receipts.stored_form import redact_headers

app = Flask("usual")


@app.post("/webhooks/<slug>")
def receive(slug: str) -> Response:
    """Answer 200 when the body is committed and its task is sent."""
    found = source(slug)
    if found is None:
        return Response(status=404)
    now = datetime.now(UTC)
    received = {name.lower(): value for name, value in request.headers.items()}
    arrived = WebhookRequest(headers=received, body=request.get_data(cache=False))
    try:
        found.provider.verify(arrived, found.credentials, now)
    except VerificationError:
        return Response(status=found.provider.status_codes.bad_signature)
    receipt_id = ids.receipt_id(now)
    with Session(engine()) as session, session.begin():
        session.add(
            ReceiptRecord(
                id=receipt_id,
                source_id=found.id,
                received_at=now,
                idempotency_key=None,
                remote_ip=request.remote_addr,
                headers=msgspec.json.encode(redact_headers(received)).decode(),
                body=arrived.body,
            )
        )
    celery.send_task("usual.receipt", args=[str(receipt_id)])
    return Response(b'{"receipt": "%b"}' % str(receipt_id).encode(), content_type="application/json")


@app.get("/healthz")
def alive() -> Response:
    """Answer that the process lives."""
    return Response(b"alive\n", content_type="text/plain")
