"""`tidings listen`: follows the change stream of a running API and posts each change to a local URL.

It needs no database: a developer runs it with the URL of an API and a key that may read.
"""

import http.client
import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import click
from rich.console import Console

from cli import context
from cli.formatting import escape
from cli.supervisor.data_dir import READY_FILE
from shared import settings
from shared.errors import InvalidFieldError, TidingsError
from shared.http import standard_webhooks
from shared.http.urls import is_http_url
from shared.settings import PREFIX

_PATH: Final = "/v1/changes/stream"
_SILENCE_SECONDS: Final = 45.0
"""The API sends something every 15 s: after three times that, the connection is lost."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 30.0
_FORWARD_SECONDS: Final = 15.0
_UNREACHABLE_PAUSE_SECONDS: Final = 1.0
_MAX_ERROR_BYTES: Final = 64 * 1024
_RETRY_LATER = (http.client.TOO_MANY_REQUESTS, http.client.REQUEST_TIMEOUT)


@dataclass(slots=True)
class Listener:
    """Reads the stream, and reconnects where it ended. `cursor` is the position after which it continues."""

    url: str
    key: str
    types: Sequence[str]
    cursor: str | None

    def follow(self, console: Console) -> Iterator[bytes]:
        """Yield each change as the JSON that subscribers get. Raises TidingsError if the API refuses or is absent."""
        pause, was_connected, is_lost = _FIRST_PAUSE_SECONDS, False, False
        while True:
            reason = "the API closed it"
            try:
                for change in self._read():
                    if is_lost:
                        console.print("Connected again.")
                    pause, was_connected, is_lost = _FIRST_PAUSE_SECONDS, True, False
                    if change:
                        yield change
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
            if not was_connected:
                raise TidingsError(
                    f"No stream from {self.url}: {reason}. Is the API running there? Name it with --api."
                )
            if not is_lost:
                console.print(
                    f"[yellow]The connection is lost[/]: {escape(reason)}. Trying again; no change is skipped."
                )
            is_lost = True
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def _read(self) -> Iterator[bytes]:
        """Yield the data of each event; nothing (`b""`) for an event that only tells the position."""
        query = urlencode({"types": ",".join(self.types)} if self.types else {})
        headers = {"Authorization": f"Bearer {self.key}", "Accept": "text/event-stream"}
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
        connection, path = _connect(self.url, _SILENCE_SECONDS)
        try:
            connection.request("GET", f"{path.rstrip('/')}{_PATH}{'?' if query else ''}{query}", headers=headers)
            response = connection.getresponse()
            if response.status != http.client.OK:
                _refuse(response.status, response.read(_MAX_ERROR_BYTES), self.url)
            cursor, data = "", b""
            for line in response:
                name, _, value = line.rstrip(b"\r\n").partition(b": ")
                if name == b"id":
                    cursor = value.decode()
                elif name == b"data":
                    data = value
                elif not name and not value and cursor:
                    yield data  # the position moves only when the reader has finished with the change
                    self.cursor, data = cursor, b""
        finally:
            connection.close()


def _connect(url: str, timeout_seconds: float) -> tuple[http.client.HTTPConnection, str]:
    """Return an unopened connection to the host of a URL, and the path with its query."""
    address = urlsplit(url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    return kind(address.hostname or "", address.port, timeout=timeout_seconds), path


def _refuse(status: int, body: bytes, url: str) -> None:
    """Raise OSError for an answer that passes, or TidingsError for one that does not."""
    try:
        detail = str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = body.decode("utf-8", "replace").strip() or http.client.responses.get(status, "")
    if status >= http.client.INTERNAL_SERVER_ERROR or status in _RETRY_LATER:
        raise OSError(f"{status}: {detail}")
    if status == http.client.GONE:
        detail += " Leave out --cursor to begin at the end."
    raise TidingsError(f"The API at {url} answered {status}: {detail}")


def forward(url: str, secret: str, change: bytes) -> str:
    """Post a change, signed as a subscriber would get it. Return the response code, or why there is none.

    Raises OSError if no connection could be made, so that the application has seen nothing of the request.
    """
    webhook_id = json.loads(change)["id"]
    signed = standard_webhooks.headers([secret], message_id=webhook_id, attempted_at=datetime.now(UTC), body=change)
    headers = {"Content-Type": "application/json", **signed, "Idempotency-Key": webhook_id, "User-Agent": "tidings"}
    connection, path = _connect(url, _FORWARD_SECONDS)
    connection.connect()
    try:
        connection.request("POST", path, body=change, headers=headers)
        response = connection.getresponse()
        response.read(_MAX_ERROR_BYTES)
    except (OSError, http.client.HTTPException) as error:
        return f"no response: {error or type(error).__name__}"
    finally:
        connection.close()
    return f"{response.status} {response.reason}".strip()


def _forward_when_reachable(console: Console, url: str, secret: str, change: bytes) -> str:
    """Post a change, and return what came back. While no connection can be made, wait for the application."""
    is_waiting = False
    while True:
        try:
            answer = forward(url, secret, change)
        except OSError as error:
            if not is_waiting:
                reason = error.strerror or str(error) or type(error).__name__
                console.print(
                    f"[yellow]Nothing can be reached at {escape(url)}[/]: {escape(reason)}. Start your application"
                    " there: the changes wait for it, and none is skipped. Ctrl-C ends.",
                    highlight=False,
                    soft_wrap=True,
                )
            is_waiting = True
            time.sleep(_UNREACHABLE_PAUSE_SECONDS)
            continue
        if is_waiting:
            console.print("The application can be reached.")
        return answer


def _check_url(option: str, url: str) -> str:
    if not is_http_url(url):
        raise InvalidFieldError(option, url, f"{option}: {url!r} is not a URL such as http://127.0.0.1:3000/webhooks.")
    return url


def _find_api(url: str | None, key: str | None, data: Path) -> tuple[str, str]:
    """Return the URL and the key: those given, those of the running `tidings up`, or those of the settings."""
    configuration = settings.read()
    running: Mapping[str, str] = {}
    if url is None and not configuration.database_url:
        with suppress(OSError, ValueError):
            running = json.loads((data / READY_FILE).read_text())
    url = url or running.get("api_url") or f"http://{configuration.host}:{configuration.api_port}"
    key = key or running.get("admin_key") or configuration.admin_key
    if not key:
        raise TidingsError(
            f"There is no key for the API at {url}. Give one with --key, set {PREFIX}ADMIN_KEY, or name the data "
            "directory of a running `tidings up` with --data."
        )
    return _check_url("--api", url), key


@click.command
@click.option("--forward", "target", metavar="URL", help="Post each change to this URL, signed.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="Only changes of this type, such as message.bounced or message.*; repeatable. Default: all.",
)
@click.option("--cursor", help="Begin after this change; 0-0 begins with the oldest one. Default: the end of the log.")
@click.option("--secret", help="Sign with this secret (whsec_…). Default: a new one, which is printed.")
@click.option(
    "--api", "url", metavar="URL", help="The URL of the API. Default: the running `tidings up`, or the settings."
)
@click.option("--key", help=f"An API key with scope read. Default: that of `tidings up`, or {PREFIX}ADMIN_KEY.")
@click.option("--json", "as_json", is_flag=True, help="Print each change as JSON, one object a line.")
@context.data_option
def listen(
    target: str | None,
    types: tuple[str, ...],
    cursor: str | None,
    secret: str | None,
    url: str | None,
    key: str | None,
    as_json: bool,
    data: Path,
) -> None:
    """Follow the changes as they happen, and post each to a local URL.

    For developing an application that receives webhooks: requests are what a subscription would get, and need no
    public URL. A lost connection is resumed without a gap. While nothing can be reached at the local URL, changes wait;
    a post that was received is not retried, whatever its answer. Ctrl-C ends it.
    """
    if target is not None:
        _check_url("--forward", target)
    if secret is not None:
        standard_webhooks.check_secret(secret)
    signing = secret or standard_webhooks.new_secret()
    listener = Listener(*_find_api(url, key, data), types, cursor)
    console = context.console(stderr=as_json)
    if target is not None:
        console.print(f"Signing secret: {signing}", highlight=False, soft_wrap=True)
        console.print(f"Posting to {escape(target)}. Ctrl-C ends it.", highlight=False, soft_wrap=True)
    # A shell starts what runs in the background with this signal ignored, but a script that sends it means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for change in listener.follow(console):
            answer = None if target is None else _forward_when_reachable(console, target, signing, change)
            if as_json:
                click.echo(change)
            if answer is not None or not as_json:
                _print_change(console, change, answer)
    except KeyboardInterrupt:
        console.print("Stopped.")
        if listener.cursor:
            console.print(f"Continue with: tidings listen --cursor {listener.cursor}", highlight=False, soft_wrap=True)


def _print_change(console: Console, change: bytes, answer: str | None) -> None:
    found = json.loads(change)
    about = found["data"].get("recipient") or found["data"].get("source") or ""
    parts = [f"{datetime.now(UTC):%H:%M:%S}", found["type"], found["id"], escape(about)]
    if answer is not None:
        colour = "green" if answer.startswith("2") else "red"
        parts.append(f"→ [{colour}]{escape(answer)}[/]")
    console.print("  ".join(filter(None, parts)), highlight=False, soft_wrap=True)
