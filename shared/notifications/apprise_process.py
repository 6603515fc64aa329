"""Apprise in a process of its own: reads what to do from standard input, writes what came of it to standard output.

`{"action": "check" | "tell", "url", "title"?, "text"?, "kind"?, "deadline_seconds"}` is answered in one line with
`{"missing": bool, "error": string | null}`.
"""

import json
import logging
import math
import signal
import sys
from io import StringIO
from typing import Any

_DENIED_ATTACHMENTS = ("file", "memory")
_MOST_LINES = 3
_SILENT = "it did not say why"


def main() -> None:
    """Do what is asked, within the deadline even if whoever asked is gone by then."""
    request = json.loads(sys.stdin.buffer.read())
    signal.alarm(math.ceil(request["deadline_seconds"]) + 1)
    try:
        import apprise  # noqa: F401
    except ImportError:
        answer: dict[str, Any] = {"missing": True, "error": None}
    else:
        answer = {"missing": False, "error": _error_of(request)}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


def _error_of(request: dict[str, Any]) -> str | None:
    from apprise import Apprise, AppriseAsset
    from apprise.manager_attachment import AttachmentManager

    said = _listen()
    # Parameters that name files are read through these, whatever a service calls them.
    AttachmentManager().remove(*_DENIED_ATTACHMENTS)  # type: ignore[no-untyped-call]
    asset = AppriseAsset(
        app_id="Tidings", app_desc="Tidings", app_url="", http_redirects=False, pgp_autogen=False, pem_autogen=False,
        storage_mode="memory", service_timeout=request["deadline_seconds"],
    )  # fmt: skip
    service = Apprise.instantiate(request["url"], asset=asset)
    if service is None:
        return _reasons(said)
    if request["action"] == "check":
        return None
    told = Apprise(service, asset=asset).notify(
        title=request["title"], body=request["text"], notify_type=request["kind"], body_format="text"
    )
    return None if told else _reasons(said)


def _listen() -> StringIO:
    said = StringIO()
    handler = logging.StreamHandler(said)
    handler.setLevel(logging.WARNING)
    logging.getLogger("apprise").addHandler(handler)
    return said


def _reasons(said: StringIO) -> str:
    lines = [line.strip() for line in said.getvalue().splitlines() if line.strip()]
    return "; ".join(lines[:_MOST_LINES]) or _SILENT


if __name__ == "__main__":
    main()
