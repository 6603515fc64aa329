"""The suppression list over the API: added, lifted, checked, explained; imported and exported by jobs."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from shared.messages import store as state
from shared.receipts import normalize
from shared.sources import store as sources
from shared.sources.source import open_source
from shared.suppression import evaluator as suppression_evaluator
from shared.suppression import recipient_hashes
from shared.suppression import store as suppressions
from shared.suppression.policy import SuppressionPolicy
from shared.suppression.recipient_hashes import RecipientHasher
from tests.api.test_openapi import agrees
from tests.support.system import HANDLE, System, mailchannels_event

LIST = "/v1/suppressions"
LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
BOUNCE: dict[str, Any] = {"status": "5.1.1", "reason": "no such user"}


def add(system: System, target: str, **more: Any) -> dict[str, Any]:
    answer = system.call("POST", LIST, {"address": target, **more})
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def lift(system: System, target: str, **query: Any) -> Any:
    return system.call("DELETE", f"{LIST}/{quote(target)}", **query)


def check(system: System, *addresses: str, **more: Any) -> list[dict[str, Any]]:
    answer = system.call("POST", f"{LIST}/check", {"addresses": addresses, **more})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.get_json()["results"]
    return results


def suppressed(system: System, *addresses: str, **more: Any) -> list[str]:
    return [result["address"] for result in check(system, *addresses, **more) if result["suppressed"]]


def process(system: System, *happenings: dict[str, Any]) -> None:
    """Process these as a worker does, and let them mean what they mean for suppression."""
    body = json.dumps([{"customer_handle": HANDLE, **happening} for happening in happenings]).encode()
    receipt = system.queue_body(body)
    with system.engine.begin() as connection:
        row = sources.find(connection, "main")
        assert row is not None
        now = datetime.now(UTC)
        rows = normalize.parse_events(open_source(row, system.vault), receipt, now, body)
        state.apply(connection, rows)
        suppression_evaluator.apply_events(connection, SuppressionPolicy(), keys_of(system), rows, now)


def keys_of(system: System) -> RecipientHasher:
    with system.engine.begin() as connection:
        return recipient_hashes.load(connection, system.vault)


SPELLINGS = (
    "müller@example.net",
    "mu\N{COMBINING DIAERESIS}ller@example.net",
    "MU\N{COMBINING DIAERESIS}LLER@Example.net",
    "\ufeffmüller@example.net\u200b",
    '"müller"@example.net',
    "mailto:müller@example.net",
    "Müller <müller@example.net.>",
    "'müller@example.net'",
)


class TestSpellingsOfOneAddress:
    @pytest.mark.parametrize("written", SPELLINGS)
    def test_are_all_suppressed_by_an_event_that_names_one(self, system: System, written: str) -> None:
        system.create_source()
        process(system, mailchannels_event("hard-bounced", written, **BOUNCE))
        assert suppressed(system, *SPELLINGS, "mü\u00adller@example.net") == [*SPELLINGS, "mü\u00adller@example.net"]
        assert suppressed(system, "muller@example.net") == []

    @pytest.mark.parametrize("written", SPELLINGS)
    def test_are_all_suppressed_by_a_person_and_lifted(self, system: System, written: str) -> None:
        assert add(system, written)["address"] == SPELLINGS[0]
        assert suppressed(system, *SPELLINGS) == [*SPELLINGS]
        assert lift(system, SPELLINGS[1]).status_code == 200
        assert suppressed(system, *SPELLINGS) == []

    @pytest.mark.parametrize("written", SPELLINGS)
    def test_are_one_recipient_of_an_announced_message(self, system: System, written: str) -> None:
        system.create_source()
        body = {"source": "main", "request_id": "r1", "sender": "a@example.com", "recipients": [written]}
        assert system.call("POST", "/v1/messages", body).status_code in (200, 201)
        process(system, mailchannels_event("delivered", SPELLINGS[0]))
        (message,) = system.get("/v1/messages", recipient=SPELLINGS[1])["items"]
        assert [entry["recipient"] for entry in message["recipients"]] == [SPELLINGS[0]]

    def test_with_an_invisible_character_inside_are_refused(self, system: System) -> None:
        answer = system.call("POST", LIST, {"address": "mül\u200bler@example.net"})
        assert answer.status_code == 422
        assert "invisible" in answer.text


class TestAdding:
    def test_suppresses_an_address_however_it_is_written(self, system: System) -> None:
        entry = add(system, "Ann <ANN@Example.net>", note="asked us to")
        assert (entry["address"], entry["domain"], entry["reason"]) == ("ann@example.net", None, "manual")
        assert (entry["origin"], entry["tenant"], entry["expires_at"]) == ("person", None, None)
        assert entry["types"] == ["non_transactional", "transactional"]
        assert entry["actor"] == "TIDINGS_ADMIN_KEY"
        assert suppressed(system, "ann@example.net", " ANN@EXAMPLE.NET ", "bob@example.net") == [
            "ann@example.net", " ANN@EXAMPLE.NET ",
        ]  # fmt: skip

    def test_suppresses_a_domain_but_not_its_subdomains(self, system: System) -> None:
        answer = system.call("POST", LIST, {"domain": "Example.NET"})
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"{LIST}/%40example.net"
        assert suppressed(system, "ann@example.net", "ann@mail.example.net") == ["ann@example.net"]
        (result,) = check(system, "ann@example.net")
        assert (result["domain"], result["reason"]) == ("example.net", "manual")

    def test_again_changes_nothing_and_answers_the_same(self, system: System) -> None:
        first = system.call("POST", LIST, {"address": "ann@example.net", "note": "x"})
        second = system.call("POST", LIST, {"address": "ann@example.net", "note": "x"})
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.get_json() == second.get_json()
        assert system.execute("SELECT count(*) FROM suppression_history") == [(1,)]

    def test_is_for_some_mail_of_a_tenant_and_until_a_time_if_that_is_what_is_asked_for(self, system: System) -> None:
        add(system, "ann@example.net", types=["non_transactional"], tenant="acme", expires_at=LATER.isoformat())
        ann = ("ann@example.net",)
        assert suppressed(system, *ann) == suppressed(system, *ann, type="non_transactional", tenant="acme") == [*ann]
        assert suppressed(system, *ann, type="transactional") == []
        assert suppressed(system, *ann, tenant="other") == []
        assert suppressed(system, *ann, tenant="") == []
        assert datetime.fromisoformat(check(system, *ann)[0]["expires_at"]) == LATER

    def test_can_be_added_explicitly_for_good(self, system: System) -> None:
        assert add(system, "ann@example.net", expires_at=None)["expires_at"] is None

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"address": "ann"},
            {"address": "a@x.net", "domain": "x.net"},
            {"domain": "x y"},
            {"address": "a@x.net", "types": []},
            {"address": "a@x.net", "types": ["letters"]},
            {"address": "a@x.net", "reason": "because"},
            {"address": "a@x.net", "expires_at": "2020-01-01T00:00:00Z"},
            {"address": "a@x.net", "until": "2020-01-01T00:00:00Z"},
            {"address": "a@x.net", "note": "x" * 1001},
        ],
    )
    def test_what_makes_no_sense_is_refused_by_the_field(self, system: System, body: dict[str, Any]) -> None:
        answer = system.call("POST", LIST, body)
        assert answer.status_code == 422
        assert answer.get_json()["errors"]


class TestLifting:
    def test_ends_all_that_is_about_the_address(self, system: System) -> None:
        add(system, "ann@example.net")
        add(system, "ann@example.net", reason="complaint")
        answer = lift(system, "Ann@Example.net", note="was a mistake")
        assert answer.status_code == 200
        assert {entry["reason"] for entry in answer.get_json()["lifted"]} == {"manual", "complaint"}
        assert not answer.get_json()["suppressed"]
        assert suppressed(system, "ann@example.net") == []

    def test_ends_only_what_was_asked_for(self, system: System) -> None:
        add(system, "ann@example.net")
        add(system, "ann@example.net", reason="complaint")
        add(system, "ann@example.net", tenant="acme")
        assert lift(system, "ann@example.net", reason="complaint").get_json()["suppressed"]
        assert [entry["tenant"] for entry in lift(system, "ann@example.net", tenant="").get_json()["lifted"]] == [None]
        assert [entry["tenant"] for entry in system.list_items(LIST)] == ["acme"]

    @pytest.mark.parametrize("path", [f"{LIST}/@example.net", f"{LIST}?domain=Example.net"])
    def test_ends_what_is_about_a_domain(self, system: System, path: str) -> None:
        add(system, "@example.net")
        assert system.call("DELETE", path).status_code == 200
        assert suppressed(system, "ann@example.net") == []

    def test_of_an_address_says_that_its_domain_still_suppresses_it(self, system: System) -> None:
        add(system, "@example.net")
        add(system, "ann@example.net")
        assert lift(system, "ann@example.net").get_json()["suppressed"]

    def test_what_nothing_suppresses_is_reported_and_remembered(self, system: System) -> None:
        system.create_source()
        answer = lift(system, "a@example.net")
        assert answer.status_code == 404
        assert "remembered" in answer.get_json()["detail"]
        process(system, mailchannels_event("hard-bounced", "a@example.net", "b@example.net", **BOUNCE))
        assert suppressed(system, "a@example.net", "b@example.net") == ["b@example.net"]
        assert system.get(f"{LIST}/a@example.net")["lifts"]

    def test_what_an_import_is_writing_is_to_be_tried_again(
        self, system: System, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(suppressions, "IMPORT_WAIT_MS", 50)
        add(system, "ann@example.net")
        system.execute("UPDATE suppressions SET origin = 'import'")
        with system.engine.begin() as importing:
            importing.exec_driver_sql("UPDATE suppressions SET note = 'x'")
            answer = lift(system, "ann@example.net")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "import" in answer.get_json()["detail"]
        assert system.list_items("/v1/audit", action="suppression.lifted") == []
        assert lift(system, "ann@example.net").status_code == 200


class TestTheList:
    def test_has_exactly_the_documented_fields(self, system: System) -> None:
        system.create_source()
        process(system, mailchannels_event("hard-bounced", "ann@example.net", **BOUNCE))
        add(system, "@example.net", tenant="acme", expires_at=LATER.isoformat())
        lift(system, "bob@example.net")
        schemas = system.client.get("/openapi.json").get_json()["components"]["schemas"]
        for entry in system.list_items(LIST):
            agrees(entry, schemas["Suppression"], schemas)
        agrees(system.get(f"{LIST}/ann@example.net"), schemas["Why"], schemas)

    def test_has_the_newest_first_and_can_be_cut_by_everything_it_says(self, system: System) -> None:
        system.create_source()
        wishes: list[dict[str, Any]] = [{}, {"tenant": "acme"}, {"reason": "complaint"}, {"types": ["transactional"]}]
        for number, more in enumerate(wishes):
            add(system, f"a{number}@x.net", **more)
        add(system, "@x.org")
        add(system, "old@x.net", expires_at=LATER.isoformat())
        system.execute("UPDATE suppressions SET until = now() - interval '1 day' WHERE address = 'old@x.net'")

        def names(**query: Any) -> set[str]:
            return {entry["address"] or entry["domain"] for entry in system.list_items(LIST, limit=2, **query)}

        assert names() == {"a0@x.net", "a1@x.net", "a2@x.net", "a3@x.net", "x.org"}
        assert names(address="A1@x.net") == {"a1@x.net"}
        assert names(address="@x.org") == names(domain="X.org") == {"x.org"}
        assert names(domain="x.net") == {"a0@x.net", "a1@x.net", "a2@x.net", "a3@x.net"}
        assert names(tenant="acme") == {"a1@x.net"}
        assert "a1@x.net" not in names(tenant="")
        assert names(reason="complaint") == {"a2@x.net"}
        assert "a3@x.net" not in names(type="non_transactional")
        assert names(origin="event") == names(source="main") == set()
        assert names(active="false") == {"old@x.net"}
        assert "old@x.net" in names(active="any")


class TestWhy:
    def test_is_explained_by_the_events_that_are_the_evidence(self, system: System) -> None:
        system.create_source()
        process(system, mailchannels_event("hard-bounced", "ann@example.net", **BOUNCE))
        case = system.get(f"{LIST}/Ann@Example.net")
        assert case["suppressed"]
        (entry,) = case["entries"]
        assert (entry["reason"], entry["origin"], entry["source"]) == ("hard_bounce", "event", "main")
        (event,) = case["events"]
        assert event["id"] == entry["evidence_event_id"]
        assert (event["type"], event["reason"]) == ("bounced", "no such user")
        assert [step["action"] for step in case["history"]] == ["added"]

    def test_history_reaches_from_the_first_addition_to_the_last_lift(self, system: System) -> None:
        add(system, "ann@example.net", note="one")
        lift(system, "ann@example.net", note="two")
        add(system, "@example.net", note="three")
        case = system.get(f"{LIST}/ann@example.net")
        assert [(step["action"], step["note"], step["address"] or step["domain"]) for step in case["history"]] == [
            ("added", "one", "ann@example.net"),
            ("lifted", "two", "ann@example.net"),
            ("added", "three", "example.net"),
        ]
        assert [entry["domain"] for entry in case["entries"]] == ["example.net"]
        assert len(case["lifts"]) == 1

    def test_has_all_soft_bounces_that_led_to_it(self, system: System) -> None:
        system.create_source()
        for number in range(3):
            process(
                system,
                mailchannels_event("soft-bounced", "a@x.net", second=number, request_id=f"r{number}", status="4.2.2"),
            )
        case = system.get(f"{LIST}/a@x.net")
        assert not case["suppressed"]
        assert [event["type"] for event in case["events"]] == ["deferred"] * 3

    def test_is_that_nothing_is_known(self, system: System) -> None:
        case = system.get(f"{LIST}/nobody@example.net")
        assert case["suppressed"] is False
        assert not any(case[name] for name in ("entries", "ended", "history", "lifts", "events"))

    @pytest.mark.parametrize("address", ["a/b@example.net", "a+b@example.net", "check", "a%b@example.net", "ä@x.net"])
    def test_can_be_asked_of_whatever_may_stand_in_a_path(self, system: System, address: str) -> None:
        assert system.get(f"{LIST}/{quote(address, safe='')}")["address"] == address


class TestAChecK:
    def test_answers_in_the_order_asked_with_addresses_as_they_were_asked(self, system: System) -> None:
        add(system, "b@x.net")
        asked = ["c@x.net", "B@X.net", "a@x.net", "B@X.net"]
        results = check(system, *asked)
        assert [result["address"] for result in results] == asked
        assert [result["suppressed"] for result in results] == [False, True, False, True]

    @pytest.mark.parametrize("wrong", ["nobody", "", "ann@", "ann@x,net", "ann@@x.net"])
    def test_refuses_what_is_no_address_by_its_place(self, system: System, wrong: str) -> None:
        answer = system.call("POST", f"{LIST}/check", {"addresses": ["c@x.net", wrong]})
        assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["addresses[1]"])

    def test_a_lift_of_what_is_no_address_is_refused_and_not_remembered(self, system: System) -> None:
        assert system.call("DELETE", f"{LIST}/nobody").status_code == 422
        assert system.rows("SELECT count(*) FROM suppression_lifts") == [(0,)]

    def test_takes_ten_thousand_at_once_and_no_more(self, system: System) -> None:
        add(system, "a9999@x.net")
        many = [f"a{number}@x.net" for number in range(10_000)]
        assert suppressed(system, *many) == ["a9999@x.net"]
        answer = system.call("POST", f"{LIST}/check", {"addresses": [*many, "one more"]})
        assert answer.status_code == 422
        assert system.call("POST", f"{LIST}/check", {"addresses": []}).status_code == 422

    def test_takes_long_addresses_too(self, system: System) -> None:
        assert len(check(system, *(f"{number:0300}@x.net" for number in range(10_000)))) == 10_000

    def test_names_the_entry_that_holds_longest_and_its_own_before_the_domains(self, system: System) -> None:
        add(system, "@x.net", reason="complaint")
        add(system, "a@x.net", reason="unsubscribe", expires_at=LATER.isoformat())
        assert check(system, "a@x.net")[0]["reason"] == "unsubscribe"
        add(system, "a@x.net", reason="manual")
        assert check(system, "a@x.net")[0]["reason"] == "manual"

    def test_ignores_expired_entries(self, system: System) -> None:
        add(system, "a@x.net", expires_at=LATER.isoformat())
        system.execute("UPDATE suppressions SET until = now()")
        assert suppressed(system, "a@x.net") == []

    def test_has_exactly_the_documented_fields(self, system: System) -> None:
        add(system, "a@x.net")
        document = system.client.get("/openapi.json").get_json()
        known = document["components"]["schemas"]["Checked"]["properties"].keys()
        assert all(result.keys() == known for result in check(system, "a@x.net", "b@x.net"))


def send(system: System, body: bytes | str, content_type: str = "text/csv", **query: Any) -> Any:
    return system.client.post(
        f"{LIST}/import",
        data=body,
        query_string=query,
        headers={"Authorization": f"Bearer {system.key}", "Content-Type": content_type},
    )


class TestFiles:
    def test_are_imported_by_a_job_and_exported_by_another(self, system: System) -> None:
        answer = send(system, "email,note\nann@example.net,x\n", types="non_transactional", reason="unsubscribe")
        assert answer.status_code == 202, answer.text
        job = answer.get_json()
        assert (job["kind"], job["state"], job["asked_by"]) == ("import_suppressions", "queued", "TIDINGS_ADMIN_KEY")
        assert len(system.notifier.tasks) == 1
        system.run_jobs()
        done = system.get(answer.headers["Location"])
        assert (done["state"], done["report"]["added"], done["has_file"]) == ("done", 1, False)
        assert system.list_items(LIST)[0]["reason"] == "unsubscribe"
        exported = system.call("POST", f"{LIST}/export", {"reason": "unsubscribe"}).get_json()
        assert system.call("GET", f"/v1/jobs/{exported['id']}/file").status_code == 409
        system.run_jobs()
        file = system.call("GET", f"/v1/jobs/{exported['id']}/file")
        assert file.headers["Content-Type"].startswith("text/csv")
        assert file.headers["Content-Disposition"].startswith("attachment")
        assert "ann@example.net,,non_transactional,unsubscribe,,,x," in file.text

    def test_may_be_rows(self, system: System) -> None:
        answer = send(
            system, '{"rows": [{"address": "ann@example.net", "types": ["transactional"]}]}', "application/json"
        )
        system.run_jobs()
        assert system.get(answer.headers["Location"])["state"] == "done"
        assert system.list_items(LIST)[0]["types"] == ["transactional"]

    def test_with_a_row_that_gives_a_name_twice_are_not_imported(self, system: System) -> None:
        rows = '{\r\n"rows": [\r\n{"address": "a@x.net"},\n{"address":\n"b@x.net", "\\u0061ddress": "c@x.net"}\n]}'
        answer = send(system, rows, "application/json")
        system.run_jobs()
        job = system.get(answer.headers["Location"])
        assert (job["state"], job["report"]["good"]) == ("failed", 1)
        assert [(line["line"], line["problem"]) for line in job["report"]["bad_lines"]] == [
            (2, "address is given more than once")
        ]

    def test_with_two_lists_of_rows_are_refused(self, system: System) -> None:
        answer = send(
            system, '{"rows": [{"address": "a@x.net"}], "rows": [{"address": "b@x.net"}]}', "application/json"
        )
        assert answer.status_code == 422
        assert "rows" in answer.get_json()["errors"]

    def test_may_be_a_million_rows_and_no_more(self, system: System) -> None:
        answer = send(system, '{"rows": [' + "{}," * 1_000_000 + "{}]}", "application/json")
        assert answer.status_code == 422
        assert "send more as CSV" in answer.get_json()["detail"]

    def test_that_are_larger_than_other_bodies_are_taken(self, system: System) -> None:
        assert send(system, b"email\n" + b"a@x.net\n" * 500_000).status_code == 202
        system.execute("DELETE FROM jobs")

    @pytest.mark.parametrize(
        ("body", "content_type", "query", "status"),
        [
            ("name\nann\n", "text/csv", {}, 422),
            ("", "text/csv", {}, 422),
            ("email\na@x.net\n", "application/xml", {}, 415),
            ("email\na@x.net\n", "text/csv", {"types": "letters"}, 422),
            ("email\na@x.net\n", "text/csv", {"reason": "because"}, 422),
            ("email\na@x.net\n", "text/csv", {"unheard": "of"}, 422),
            ("{", "application/json", {}, 400),
            ('{"rows": []}', "application/json", {}, 422),
            ('{"rows": [{"address": 1}]}', "application/json", {}, 422),
        ],
    )
    def test_that_cannot_be_used_are_refused_at_once(
        self, system: System, body: str, content_type: str, query: dict[str, str], status: int
    ) -> None:
        answer = send(system, body, content_type, **query)
        assert answer.status_code == status, answer.text
        assert system.execute("SELECT count(*) FROM jobs") == [(0,)]

    def test_with_a_bad_line_are_not_imported_and_the_jobs_file_says_why(self, system: System) -> None:
        answer = send(system, "email\nann@example.net\nbob\n")
        system.run_jobs()
        job = system.get(answer.headers["Location"])
        assert job["state"] == "failed"
        assert job["report"]["bad_lines"] == [
            {"line": 3, "problem": "'bob' has no @; a domain is written @example.com", "text": "bob"}
        ]
        assert "bob" in system.call("GET", f"/v1/jobs/{job['id']}/file").text
        assert system.list_items(LIST) == []


class TestErasures:
    def test_are_jobs_that_do_not_show_the_address(self, system: System) -> None:
        answer = system.call("POST", "/v1/erasures", {"address": "Ann@Example.net"})
        assert answer.status_code == 202
        assert "example.net" not in answer.text.lower()
        assert "example.net" not in str(system.execute("SELECT parameters FROM jobs")).lower()
        assert answer.get_json()["parameters"] == {"key": keys_of(system).hash_address("ann@example.net")}

    @pytest.mark.parametrize("address", ['"ann lee"@example.net', "ann@[192.0.2.1]"])
    def test_are_also_of_what_is_kept_and_is_odd(self, system: System, address: str) -> None:
        answer = system.call("POST", "/v1/erasures", {"address": address})
        assert answer.status_code == 202
        assert answer.get_json()["parameters"] == {"key": keys_of(system).hash_address(address)}

    @pytest.mark.parametrize("address", ["@example.net", "ann", "", "ann@example.net, bob@example.net"])
    def test_are_of_one_address(self, system: System, address: str) -> None:
        assert system.call("POST", "/v1/erasures", {"address": address}).status_code == 422
