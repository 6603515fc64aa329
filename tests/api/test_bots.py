"""Opens and clicks made by a program are flagged wherever an event is shown, and are counted all the same."""

from typing import Any

from tests.support.system import System, mailchannels_event

ANN = "ann@example.net"
PERSON = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Thunderbird/128.5.0"


def open_thrice(system: System) -> None:
    system.create_source()
    system.process_events(
        mailchannels_event("delivered", ANN),
        mailchannels_event("open", ANN, second=1, user_agent="Mozilla/5.0", ip="17.58.101.1"),
        mailchannels_event("open", ANN, second=2, user_agent=PERSON, ip="203.0.113.45"),
        mailchannels_event(
            "click", ANN, second=3, user_agent="Barracuda Sentinel (EE)", ip="203.0.113.46", url="https://x.example"
        ),
    )


def flags(events: list[dict[str, Any]]) -> dict[tuple[str, str | None], str | None]:
    return {(event["type"], event["user_agent"]): event["automated"] for event in events}


EXPECTED = {
    ("delivered", None): None,
    ("opened", "Mozilla/5.0"): "privacy_proxy",
    ("opened", PERSON): None,
    ("clicked", "Barracuda Sentinel (EE)"): "scanner",
}


def test_the_flag_is_shown_in_events_timelines_and_changes(system: System) -> None:
    open_thrice(system)
    events = system.list_items("/v1/events")
    assert flags(events) == EXPECTED
    assert flags(system.list_items(f"/v1/messages/{events[0]['message_id']}/events")) == EXPECTED
    assert flags([change["data"]["event"] for change in system.get("/v1/changes")["items"]]) == EXPECTED


def test_what_is_flagged_counts_like_any_other(system: System) -> None:
    open_thrice(system)
    (message,) = system.list_items("/v1/messages")
    (recipient,) = message["recipients"]
    assert (recipient["opens"], recipient["clicks"]) == (2, 1)
    assert recipient["opened"]
    assert recipient["clicked"]
