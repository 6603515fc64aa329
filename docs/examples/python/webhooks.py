"""Receive webhooks: verify the signature, store each change once, then answer.

    WEBHOOK_SECRETS='whsec_… whpk_…' python webhooks.py PORT DATABASE

`whsec_…` is the secret of a subscription with the scheme v1, `whpk_…` the public key of one with the scheme v1a, which
needs the package cryptography. Several are accepted, so that a secret can be rotated.
"""

import base64
import hmac
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tidings import open_store, store

TOLERANCE_SECONDS = 300


class BadSignatureError(Exception):
    """The request is not from Tidings, or is old."""


def verify(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> Any:
    """Return the change of a request. Raises BadSignatureError.

    `body` are the bytes that arrived: a document that was parsed and written again has other bytes.
    """
    name, at = headers.get("webhook-id") or "", headers.get("webhook-timestamp") or ""
    if not at.isdecimal() or abs(time.time() - int(at)) > TOLERANCE_SECONDS:
        raise BadSignatureError("webhook-timestamp is missing, or more than five minutes off")
    signed = b".".join((name.encode(), at.encode(), body))
    # During a rotation there are several signatures, separated by spaces. One that is valid is enough.
    for signature in (headers.get("webhook-signature") or "").split():
        scheme, _, text = signature.partition(",")
        for secret in secrets:
            if is_valid(scheme, text, secret, signed):
                return json.loads(body)
    raise BadSignatureError("no signature is valid")


def is_valid(scheme: str, signature: str, secret: str, signed: bytes) -> bool:
    """Return whether this secret made this signature."""
    try:
        given = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    prefix, _, encoded = secret.partition("_")
    key = base64.b64decode(encoded)
    if (scheme, prefix) == ("v1", "whsec"):
        return hmac.compare_digest(given, hmac.digest(key, signed, "sha256"))
    if (scheme, prefix) == ("v1a", "whpk"):
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(key).verify(given, signed)
        except InvalidSignature:
            return False
        return True
    return False


class Receiver(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Accept a change."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            change = verify(body, self.headers, os.environ["WEBHOOK_SECRETS"].split())
        except BadSignatureError as error:
            self.answer(401, str(error))
            return
        database = open_store(sys.argv[2])
        try:
            database.execute("BEGIN IMMEDIATE")
            is_new = store(database, change)
            database.execute("COMMIT")
        finally:
            database.close()
        # Only now: 2xx says that the change is stored. Slow work is done afterwards, by another process.
        self.answer(200, "stored" if is_new else "known")
        if is_new:
            print(f"{change['id']} {change['type']} {change['data'].get('recipient') or ''}", flush=True)

    def answer(self, status: int, text: str) -> None:
        """Send a response."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
