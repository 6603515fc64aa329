"""Runs apprise in a separate process: reads a request from standard input, writes the result to standard output.

The request is `{"action": "check" | "send", "url", "title"?, "text"?, "kind"?, "deadline_seconds"}`, the result one
line with `{"missing": bool, "error": string | null}`.
"""

import json
import logging
import math
import signal
import sys
from io import StringIO
from typing import Any

_DENIED_ATTACHMENTS = ("file", "memory")
_MAX_LINES = 3


def main() -> None:
    """Handle one request. The alarm ends the process at the deadline even if its parent is gone."""
    request = json.loads(sys.stdin.buffer.read())
    signal.alarm(math.ceil(request["deadline_seconds"]) + 1)
    result: dict[str, Any] = {"missing": False, "error": None}
    try:
        from apprise import Apprise, AppriseAsset
        from apprise.manager_attachment import AttachmentManager
    except ImportError:
        result["missing"] = True
    else:
        log = StringIO()
        handler = logging.StreamHandler(log)
        handler.setLevel(logging.WARNING)
        logging.getLogger("apprise").addHandler(handler)
        # Services read parameters that name files through these, whatever the parameters are called.
        AttachmentManager().remove(*_DENIED_ATTACHMENTS)  # type: ignore[no-untyped-call]
        asset = AppriseAsset(
            app_id="Tidings", app_desc="Tidings", app_url="", http_redirects=False, pgp_autogen=False,
            pem_autogen=False, storage_mode="memory", service_timeout=request["deadline_seconds"],
        )  # fmt: skip
        service = Apprise.instantiate(request["url"], asset=asset)
        done = service is not None
        if service is not None and request["action"] == "send":
            notified = Apprise(service, asset=asset).notify(
                title=request["title"], body=request["text"], notify_type=request["kind"], body_format="text"
            )
            done = bool(notified)
        if not done:
            lines = [line.strip() for line in log.getvalue().splitlines() if line.strip()]
            result["error"] = "; ".join(lines[:_MAX_LINES]) or "it gave no reason"
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
