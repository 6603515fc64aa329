"""The console as a browser without JavaScript sees it: signed in, and with the headers that a browser sends."""

from collections.abc import Iterator
from html.parser import HTMLParser

from flask.testing import FlaskClient
from werkzeug.routing import Rule

from tests.support.system import ADMIN_KEY, System

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def sign_in(system: System, key: str = ADMIN_KEY) -> FlaskClient:
    """Return a client with a session of this key."""
    client = system.client.application.test_client()
    answer = client.post("/console/login", data={"key": key}, headers=SAME_ORIGIN)
    assert answer.status_code == 303, answer.text
    return client


def read_cookie(client: FlaskClient, name: str = "tidings_console") -> str:
    """Return the value of a cookie of the console."""
    cookie = client.get_cookie(name, path="/console/")
    assert cookie is not None
    return cookie.value


def rules(system: System, method: str) -> Iterator[Rule]:
    """Yield the routes of the console that answer this method, without signing in and static files."""
    for rule in system.client.application.url_map.iter_rules():
        is_page = rule.rule.startswith("/console/") and not rule.endpoint.startswith("console.login.")
        if (
            is_page
            and rule.endpoint not in ("console.static_file", "console.missing")
            and method in (rule.methods or ())
        ):
            yield rule


class Page(HTMLParser):
    """The elements of a page and their attributes, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))

    def find_active(self) -> list[str]:
        """Return what could run code, change the style or lead elsewhere without a click."""
        found = []
        for tag, attributes in self.elements:
            if tag in ("style", "base", "iframe", "object", "embed", "img") or (
                tag == "script" and "src" not in attributes
            ):
                found.append(tag)
            for name, value in attributes.items():
                is_address = name in ("href", "src", "action", "data-href", "formaction")
                if (
                    name.startswith("on")
                    or name == "style"
                    or (is_address and not (value or "/").startswith(("/", "#")))
                ):
                    found.append(f"{tag} {name}={value}")
                if name.startswith("hx-") and (name, value) not in (
                    ("hx-sse:connect", "/console/live"), ("hx-swap", "none")
                ):  # fmt: skip
                    found.append(f"{tag} {name}={value}")
        return found
