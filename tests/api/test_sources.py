"""Sources: created, changed and shown without ever showing a secret."""

from typing import Any

import pytest

from shared.errors import InvalidFieldError
from shared.sources import service, store
from shared.sources.source import read_settings
from tests.support import signed_requests
from tests.support.system import System

SECRET = "hunter2-hunter2-hunter2"
OTHER = "correct-horse-battery-staple"

CREDENTIALS: dict[str, tuple[dict[str, Any], str]] = {
    "mailchannels": ({"customer_handles": ["acct"], "api_key": SECRET}, "api_key"),
    "ark": ({"api_key": SECRET, "tenant_id": "t1"}, "api_key"),
    "cloudmailin": ({"username": "user", "password": SECRET}, "password"),
    "mailwebhook": ({"signing_secrets": {"k1": SECRET}, "api_key": OTHER}, "signing_secrets"),
}


@pytest.mark.parametrize("provider", CREDENTIALS)
def test_no_answer_ever_holds_a_secret(system: System, provider: str) -> None:
    given, field = CREDENTIALS[provider]
    body = {"slug": "main", "provider": provider, "credentials": given}
    answers = [
        system.call("POST", "/v1/sources", body),
        system.call("POST", "/v1/sources", body),
        system.call("GET", "/v1/sources/main"),
        system.call("GET", "/v1/sources"),
        system.call("PATCH", "/v1/sources/main", {"settings": {"api_base": "https://esp.example"}}),
        system.call("PATCH", "/v1/sources/main", {"credentials": {field: 5}}),
    ]
    assert [answer.status_code for answer in answers] == [201, 409, 200, 200, 200, 422]
    for answer in answers:
        assert SECRET not in answer.text
        assert OTHER not in answer.text
    assert field in answers[2].get_json()["credentials"]


def test_the_names_of_secrets_stay_visible(system: System) -> None:
    system.create_source(provider="mailwebhook", signing_secrets={"k1": SECRET, "k2": "short"})
    assert system.get("/v1/sources/main")["credentials"]["signing_secrets"] == {"k1": "••••ter2", "k2": "••••"}


def test_an_unknown_field_is_refused_with_the_nearest_one_and_without_its_value(system: System) -> None:
    credentials = {"customer_handles": ["acct"], "apikey": SECRET}
    new = {"slug": "main", "provider": "mailchannels", "credentials": credentials}
    refused = system.call("POST", "/v1/sources", new)
    assert refused.status_code == 422
    assert list(refused.get_json()["errors"]) == ["credentials.apikey"]
    assert "Did you mean 'api_key'?" in refused.text
    assert SECRET not in refused.text


def test_an_unknown_field_of_an_earlier_version_is_hidden_and_can_be_dropped(system: System) -> None:
    system.create_source(customer_handles=["acct"])
    with system.engine.begin() as connection:
        row = store.find(connection, "main")
        assert row is not None
        sealed = system.vault.seal({"customer_handles": ["acct"], "apikey": SECRET})
        store.update(connection, row.id, credentials=sealed)
    assert SECRET not in system.call("GET", "/v1/sources/main").text
    assert system.call("PATCH", "/v1/sources/main", {"credentials": {"customer_handles": ["b"]}}).status_code == 200
    with system.engine.begin() as connection:
        service.rotate(connection, system.vault, "main", {}, ["apikey"])
    assert "apikey" not in system.get("/v1/sources/main")["credentials"]


def test_what_is_not_there_cannot_be_dropped(system: System) -> None:
    system.create_source(customer_handles=["acct"], public_keys={"k1": signed_requests.ed25519_public()})
    for name in ("public_keys.k2", "public_key", "previous"):
        with (
            system.engine.begin() as connection,
            pytest.raises(InvalidFieldError, match=f"no '{name}' to drop") as raised,
        ):
            service.rotate(connection, system.vault, "main", {}, [name])
        assert name == "previous" or "Did you mean 'public_keys" in str(raised.value)


def test_of_a_key_set_only_the_public_part_is_shown(system: System) -> None:
    key = {**signed_requests.jwk(), "d": SECRET, "kid": "k1"}
    system.create_source(provider="postal", jwks={"keys": [key]})
    shown = system.get("/v1/sources/main")["credentials"]["jwks"]["keys"][0]
    assert shown["kid"] == "k1"
    assert "d" not in shown


def test_a_source_says_where_its_provider_posts(system: System) -> None:
    system.create_source("shop-mail")
    found = system.get("/v1/sources/shop-mail")
    assert found["webhook_url"] == "/webhooks/shop-mail"
    assert found["problem"] is None
    assert found["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"slug": "Main"}, "slug"),
        ({"slug": "-main"}, "slug"),
        ({"slug": "m" * 64}, "slug"),
        ({"slug": ""}, "slug"),
        ({"slug": 5}, "slug"),
        ({"provider": "sendmail"}, "provider"),
        ({"credentials": {}}, "credentials.customer_handles"),
        ({"credentials": []}, "credentials"),
        ({"credentials": {"customer_handles": ["a"], "public_keys": {"k": "no key"}}}, "credentials.public_keys"),
        ({"settings": {"api_base": "ftp://x"}}, "settings.api_base"),
        ({"settings": {"keys_url": "https://esp.example/\r\nX: y"}}, "settings.keys_url"),
        ({"settings": {"webhook_url": "https://esp.example/ a"}}, "settings.webhook_url"),
        ({"settings": {"webhook_url": "https://ann:hunter2@mail.example/webhooks/main"}}, "settings.webhook_url"),
        ({"settings": {"api_base": "https://ann@esp.example"}}, "settings.api_base"),
        ({"settings": {"keys_url": "https://[keys.example"}}, "settings.keys_url"),
        ({"settings": {"color": "red"}}, "settings.color"),
        ({"settings": {"quarantine_until": "soon"}}, "settings.quarantine_until"),
        ({"credentials": {"customer_handles": ["a"], "api_key": "••••cret"}}, "credentials"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_field_is_named(shared_system: System, body: dict[str, Any], field: str) -> None:
    whole = {"slug": "main", "provider": "mailchannels", "credentials": {"customer_handles": ["a"]}, **body}
    answer = shared_system.call("POST", "/v1/sources", whole)
    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"
    assert list(answer.get_json()["errors"]) == [field]
    assert shared_system.get("/v1/sources")["items"] == []


def test_a_missing_field_is_named(shared_system: System) -> None:
    answer = shared_system.call("POST", "/v1/sources", {})
    assert set(answer.get_json()["errors"]) == {"slug", "provider", "credentials"}


def test_a_new_secret_is_added_while_the_old_one_stays(system: System) -> None:
    system.create_source(provider="mailwebhook", signing_secrets={"old": SECRET})
    system.call("PATCH", "/v1/sources/main", {"credentials": {"signing_secrets": {"new": OTHER}}})
    assert system.get("/v1/sources/main")["credentials"]["signing_secrets"].keys() == {"old", "new"}
    system.call("PATCH", "/v1/sources/main", {"credentials": {"signing_secrets": {"old": None}}})
    found = system.get("/v1/sources/main")
    assert found["credentials"]["signing_secrets"].keys() == {"new"}
    assert found["version"] == 3


def test_null_removes_a_field_and_omitted_fields_stay(system: System) -> None:
    system.create_source(customer_handles=["a"], api_key=SECRET)
    system.call("PATCH", "/v1/sources/main", {"settings": {"keys_url": "https://keys.example"}})
    system.call("PATCH", "/v1/sources/main", {"credentials": {"api_key": None}})
    found = system.get("/v1/sources/main")
    assert found["credentials"] == {"customer_handles": ["a"]}
    assert found["settings"] == {"keys_url": "https://keys.example"}


def test_a_change_that_would_leave_the_source_unusable_is_refused(system: System) -> None:
    system.create_source(customer_handles=["a"])
    answer = system.call("PATCH", "/v1/sources/main", {"credentials": {"customer_handles": None}})
    assert answer.status_code == 422
    assert system.get("/v1/sources/main")["credentials"] == {"customer_handles": ["a"]}


def test_a_deleted_source_is_gone_and_its_name_stays_taken(system: System) -> None:
    system.create_source()
    assert system.call("DELETE", "/v1/sources/main").status_code == 204
    assert system.call("GET", "/v1/sources/main").status_code == 404
    assert system.call("DELETE", "/v1/sources/main").status_code == 404
    assert system.call("PATCH", "/v1/sources/main", {}).status_code == 404
    body = {"slug": "main", "provider": "mailchannels", "credentials": {"customer_handles": ["a"]}}
    assert system.call("POST", "/v1/sources", body).status_code == 409


def test_sources_come_in_pages_by_name(system: System) -> None:
    for slug in ("d", "b", "a", "c", "e"):
        system.create_source(slug)
    assert [item["slug"] for item in system.list_items("/v1/sources", limit=2)] == ["a", "b", "c", "d", "e"]


def test_a_source_whose_secrets_cannot_be_opened_says_so(system: System) -> None:
    system.create_source()
    system.execute("UPDATE sources SET credentials = 'nonsense'")
    (found,) = system.get("/v1/sources")["items"]
    assert "TIDINGS_SECRET_KEYS" in found["problem"]
    assert found["credentials"] == {}
    assert system.call("PATCH", "/v1/sources/main", {"credentials": {}}).status_code == 409


@pytest.mark.parametrize("key", ["a\r\nX-Injected: 1", "a\nb", " a", "a\n"])
def test_an_api_key_that_would_become_another_header_is_refused(shared_system: System, key: str) -> None:
    credentials = {"customer_handles": ["acct"], "api_key": key}
    body = {"slug": "injected", "provider": "mailchannels", "credentials": credentials}
    answer = shared_system.call("POST", "/v1/sources", body)
    assert answer.status_code == 422
    assert "credentials.api_key" in answer.text


def test_two_sources_cannot_read_one_queue(system: System) -> None:
    """SQS gives a message to one reader only, so each source would have a part of the events."""
    credentials = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": SECRET}
    queue = {"url": "https://sqs.eu-west-1.amazonaws.com/123456789012/events"}
    first = {"slug": "first", "provider": "ses", "credentials": credentials, "settings": {"queue": queue}}
    assert system.call("POST", "/v1/sources", first).status_code == 201
    older_form = {"url": "https://eu-west-1.queue.amazonaws.com/123456789012/events/"}
    refused = system.call("POST", "/v1/sources", {**first, "slug": "second", "settings": {"queue": older_form}})
    assert (refused.status_code, list(refused.get_json()["errors"])) == (422, ["settings.queue.url"])
    assert "the source first" in refused.text
    other = {"url": "https://sqs.eu-west-1.amazonaws.com/123456789012/others"}
    assert (
        system.call("POST", "/v1/sources", {**first, "slug": "second", "settings": {"queue": other}}).status_code == 201
    )
    moved = system.call("PATCH", "/v1/sources/second", {"settings": {"queue": queue}})
    assert (moved.status_code, list(moved.get_json()["errors"])) == (422, ["settings.queue.url"])
    assert system.call("PATCH", "/v1/sources/first", {"settings": {"queue": queue}}).status_code == 200
    system.call("DELETE", "/v1/sources/first")
    assert system.call("PATCH", "/v1/sources/second", {"settings": {"queue": queue}}).status_code == 200


def test_a_source_of_an_earlier_version_that_shares_its_queue_can_be_changed(system: System) -> None:
    credentials = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": SECRET}
    for number in (1, 2):
        queue = {"url": f"https://sqs.eu-west-1.amazonaws.com/123456789012/{number}"}
        body = {"slug": f"s{number}", "provider": "ses", "credentials": credentials, "settings": {"queue": queue}}
        assert system.call("POST", "/v1/sources", body).status_code == 201
    system.execute("UPDATE sources SET settings = (SELECT settings FROM sources WHERE slug = 's1')")
    changed = {"credentials": {"secret_access_key": SECRET[::-1]}}
    assert system.call("PATCH", "/v1/sources/s2", changed).status_code == 200


def test_a_source_of_an_earlier_version_with_an_international_url_still_opens() -> None:
    read_settings({"webhook_url": "https://hooks.müller.example/webhooks/main"})
