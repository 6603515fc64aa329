"""Events that vendors document, or that others received, are read as they are meant. Each file says its source."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from shared.events.event import Event
from shared.providers.registry import PROVIDERS
from tests.support.signed_requests import credentials

DIRECTORY = Path(__file__).with_name("documented")
FILES = {file.stem: json.loads(file.read_text()) for file in sorted(DIRECTORY.iterdir())}


def shown(event: Event, name: str) -> Any:
    value = getattr(event, name)
    return value.isoformat() if isinstance(value, datetime) else value


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, file in FILES.items() for number in range(len(file["cases"]))]
)
def test_a_documented_event_is_read_as_it_is_meant(name: str, number: int) -> None:
    file, case = FILES[name], FILES[name]["cases"][number]
    text = json.dumps(case["body"])
    body = urlencode({file["form"]: text}) if "form" in file else text
    events = PROVIDERS[name].parse(body.encode(), credentials(name))
    read = [
        {field: shown(event, field) for field in expected}
        for event, expected in zip(events, case["expect"], strict=True)
    ]
    assert read == case["expect"]
