"""What `tidings diagnose` says of five messages that fared differently."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from rich.console import Console
from rich.markup import escape

from cli.demo.claims import Claim
from cli.demo.report import Act, table_of
from simulator.api import Api

_NEVER_SENT: Final = "a request that nothing is known of"
_VERDICTS: Mapping[str, str] = {
    "delivered": "delivered",
    "hard bounce": "bounced",
    "dropped": "suppressed",
    "under way": "partly_seen",
    _NEVER_SENT: "never_seen",
}
"""The stories of the messages that are asked about, and what should be said of them."""


def show(console: Console, api: Api, act: Act) -> list[Claim]:
    """Print the verdict on a message of each story; whether it is the right one."""
    table = table_of("\ntidings diagnose", message=14, verdict=12, why=0)
    differences = []
    for story, verdict in _VERDICTS.items():
        name, query = _asked(act, story)
        report = api.call("GET", f"/v1/diagnosis?{urlencode({**query, 'source': act.slug})}")["items"][0]
        table.add_row(name, report["verdict"].replace("_", " "), escape(report["headline"]))
        if report["verdict"] != verdict:
            differences.append(f"{story}: it says {report['verdict']}, not {verdict}")
    table.columns[-1].no_wrap = False
    console.print(table)
    count = len(_VERDICTS)
    text = f"diagnosis: {count} messages that fared differently got {count} answers"
    return [Claim(text=text, differences=tuple(differences))]


def _asked(act: Act, story: str) -> tuple[str, Mapping[str, str]]:
    """What a message of that story is called, and how it is asked for."""
    for expectation in act.play.expectations:
        if expectation.story == story:
            return expectation.message.subject, act.dialect.lookup(expectation.message)
    return "", {"request_id": "nobody-knows-this"}
