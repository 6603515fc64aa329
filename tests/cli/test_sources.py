"""`tidings sources`: created, shown, rotated, checked, without showing a secret."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared import ids
from shared.providers.registry import PROVIDERS
from shared.receipts.store import Refusal, record_refusals
from shared.reconciliation import store as reconciliations
from shared.sources import store as sources
from shared.sources.source import open_source
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.server import ProviderServer
from tests.support import signed_requests
from tests.support.command_line import Commands, parse_command
from tests.support.system import System, mailchannels_event

SECRET = "hunter2-hunter2-hunter2"
HOOK = json.dumps({"signing_secrets": {"old": SECRET}})


def add(commands: Commands, slug: str = "main", provider: str = "mailwebhook", credentials: str = HOOK) -> str:
    return commands.run("sources", "add", slug, "--provider", provider, "--credentials", credentials)


def test_a_source_is_created_and_its_url_is_printed(commands: Commands) -> None:
    assert "/webhooks/main" in add(commands)
    assert "main" in commands.run("sources", "list")
    assert commands.system.get("/v1/sources/main")["provider"] == "mailwebhook"


def test_credentials_come_from_a_file_or_from_standard_input(commands: Commands, tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(HOOK)
    add(commands, "one", credentials=f"@{file}")
    commands.run("sources", "add", "two", "--provider", "mailwebhook", "--credentials", "-", says=HOOK)
    assert {item["slug"] for item in json.loads(commands.run("sources", "list", "--json"))} == {"one", "two"}


@pytest.mark.parametrize(
    ("provider", "credentials", "sentence"),
    [
        ("mailwebhook", "{}", "signing_secrets"),
        ("mailwebhook", "{", "not valid JSON"),
        ("mailwebhook", "[]", "must be a JSON object"),
        ("mailwebhook", '{"signing_secrets": {"a": "x", "a": "y"}}', "--credentials gives the name 'a' twice"),
        ("mailwebhook", "[" * 100_000, "nested too deep"),
        ("mailwebhook", "@/nowhere/at/all", "cannot be read"),
        ("mailwebhook", "@/dev/zero", "larger than 256 KiB"),
        ("postal", "{}", "jwks"),
    ],
)
def test_wrong_credentials_are_refused_in_a_sentence(
    commands: Commands, provider: str, credentials: str, sentence: str
) -> None:
    output = commands.run("sources", "add", "main", "--provider", provider, "--credentials", credentials, code=2)
    assert sentence in output
    assert "Traceback" not in output


def test_no_command_prints_a_secret(commands: Commands) -> None:
    outputs = [
        add(commands),
        commands.run("sources", "add", "main", "--provider", "mailwebhook", "--credentials", HOOK, code=2),
        commands.run("sources", "list"),
        commands.run("sources", "list", "--json"),
        commands.run("sources", "show", "main"),
        commands.run("sources", "check"),
    ]
    assert not [output for output in outputs if SECRET in output]


def test_a_rotation_keeps_the_old_secret_until_it_is_dropped(commands: Commands) -> None:
    add(commands)
    commands.run("sources", "rotate", "main", "--credentials", '{"signing_secrets": {"new": "another secret"}}')
    shown = json.loads(commands.run("sources", "show", "main"))
    assert shown["credentials"]["signing_secrets"].keys() == {"old", "new"}
    commands.run("sources", "rotate", "main", "--drop", "signing_secrets.old")
    shown = json.loads(commands.run("sources", "show", "main"))
    assert shown["credentials"]["signing_secrets"].keys() == {"new"}


def test_a_rotation_puts_a_new_secret_before_those_of_a_list(commands: Commands) -> None:
    def held() -> object:
        with commands.system.engine.begin() as connection:
            row = sources.find(connection, "main")
        assert row is not None
        return commands.system.vault.open(row.credentials)["signing_secret"]

    def rotate(*options: str) -> str:
        return commands.run("sources", "rotate", "main", *options)

    add(commands, provider="mailtrap", credentials='{"signing_secret": "one"}')
    rotate("--credentials", '{"signing_secret": "two"}')
    rotate("--credentials", '{"signing_secret": ["three", "one"]}')
    assert held() == ["three", "one", "two"]
    rotate("--drop", "signing_secret.old")
    assert held() == ["three"]
    rotate("--credentials", '{"signing_secret": "four"}', "--drop", "signing_secret.old")
    assert held() == ["four"]
    commands.run("sources", "rotate", "main", "--drop", "signing_secret.old", code=2)


def test_a_new_password_lets_the_previous_one_in_until_it_is_dropped(commands: Commands) -> None:
    add(commands, provider="cloudmailin", credentials=json.dumps({"username": "u", "password": SECRET}))
    commands.run("sources", "rotate", "main", "--credentials", '{"password": "another password"}')
    assert accepts(commands.system, SECRET)
    assert accepts(commands.system, "another password")
    assert "previous password" in commands.run("sources", "check", "main")
    commands.run("sources", "rotate", "main", "--drop", "previous")
    assert not accepts(commands.system, SECRET)
    assert accepts(commands.system, "another password")


def accepts(system: System, password: str) -> bool:
    from shared.errors import VerificationError

    with system.engine.begin() as connection:
        row = sources.find(connection, "main")
    assert row is not None
    source = open_source(row, system.vault)
    request = signed_requests.sign_cloudmailin(b"{}", username="u", password=password)
    try:
        source.provider.verify(request, source.credentials, datetime.now(UTC))
    except VerificationError:
        return False
    return True


def test_a_check_says_what_is_wrong_and_how_to_set_the_provider_up(commands: Commands) -> None:
    add(commands, "inbound")
    dialect = MailChannels()
    with ProviderServer({"events": dialect}) as server:
        given = json.dumps(dialect.credentials())
        commands.run(
            "sources", "add", "events", "--provider", "mailchannels", "--credentials", given,
            "--setting", f"keys_url={server.keys_url('events')}",
        )  # fmt: skip
        good = commands.run("sources", "check")
    assert f"answers with {dialect.key_id}" in good
    assert "https://<your host>/webhooks/events" in good
    assert "endpoint" in good
    away = commands.run("sources", "check", "events", code=1)
    assert "keys cannot be fetched" in away


def test_a_check_reports_secrets_that_cannot_be_decrypted(commands: Commands) -> None:
    add(commands)
    commands.system.execute("UPDATE sources SET credentials = 'nonsense'")
    assert "TIDINGS_SECRET_KEYS" in commands.run("sources", "check", code=1)


def test_a_quarantine_is_opened_and_closed(commands: Commands) -> None:
    add(commands)
    commands.run("sources", "quarantine", "main", "--hours", "2")
    assert "go to quarantine instead of being refused" in commands.run("sources", "check", "main")
    commands.run("sources", "quarantine", "main", "--off")
    assert commands.system.get("/v1/sources/main")["settings"] == {}


def test_rotated_secrets_are_tried_on_what_is_unverified_at_once(commands: Commands) -> None:
    system = commands.system
    source = system.add_source("cm", "cloudmailin", {"username": "user", "password": "a wrong password"})
    system.quarantine(source, b"{}", {})
    system.execute("UPDATE parked_receipts SET available_at = now() + interval '30 s'")
    commands.run("sources", "rotate", "cm", "--credentials", '{"password": "the right password"}')
    assert system.rows("SELECT available_at <= now() FROM parked_receipts") == [(True,)]


def test_a_removed_source_is_out_of_service(commands: Commands) -> None:
    add(commands, provider="mailchannels", credentials='{"customer_handles": ["acct"]}')
    commands.system.process_events(mailchannels_event("delivered", "a@example.net"))
    assert "Aborted" in commands.run("sources", "remove", "main", says="n\n", code=1)
    commands.run("sources", "remove", "main", "--yes")
    assert "no sources yet" in commands.run("sources", "list")
    assert len(commands.system.list_items("/v1/messages")) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("show", "x"),
        ("check", "x"),
        ("rotate", "x", "--drop", "api_key"),
        ("quarantine", "x"),
        ("remove", "x", "--yes"),
    ],
)
def test_an_unknown_source_is_said_so(commands: Commands, words: tuple[str, ...]) -> None:
    assert "no source called 'x'" in commands.run("sources", *words, code=2)


def test_a_check_says_what_was_set_aside_and_why(commands: Commands) -> None:
    dialect = MailChannels(seed=1)
    with ProviderServer({"main": dialect}) as server:
        commands.system.add_source("main", "mailchannels", dialect.credentials(), **server.settings("main"))
        assert "changed nothing" not in commands.run("sources", "check", "main")
        commands.system.process_events(mailchannels_event("delivered", "a@example.net", customer_handle="stranger"))
        output = commands.run("sources", "check", "main")
    assert "authentic events that changed nothing in the last 24 hours: 1" in output
    assert "'stranger'" in output
    assert "tidings reprocess --source main" in output


def test_a_source_shows_its_url_here_its_last_event_refusal_and_registration(commands: Commands) -> None:
    system = commands.system
    output = commands.run(
        "sources", "add", "main", "--provider", "mailchannels", "--credentials", '{"customer_handles": ["acct"]}',
        "--setting", "keys_url=http://127.0.0.1:1/keys",
    )  # fmt: skip
    assert "Its webhook is http://127.0.0.1:8080/webhooks/main on this machine" in output
    assert "last event: never" in commands.run("sources", "list")
    now = datetime.now(UTC)
    system.process_events(
        mailchannels_event("delivered", "a@example.net"),
        mailchannels_event("delivered", "b@example.net") | {"customer_handle": "other"},
        at=now,
    )
    refusal = Refusal(
        id=ids.receipt_id(now), source="main", refused_at=now, status_code=401, reason="bad_signature",
        detail="No key fits", remote_ip=None, headers="{}", bytes=5, count=1,
    )  # fmt: skip
    with system.engine.begin() as connection:
        record_refusals(connection, [refusal])
        source = sources.find(connection, "main")
        assert source is not None
        reconciliations.ensure(connection, [source.id])
        reconciliations.record_webhooks(connection, source.id, [], enrolled=False)
    for command, code in ((("sources", "list"), 0), (("sources", "check", "main"), 1)):
        output = commands.run(*command, code=code)
        for words in (
            f"last event: {now:%Y-%m-%d %H:%M} UTC",
            f"last refusal: {now:%Y-%m-%d %H:%M} UTC (bad_signature: No key fits)",
            "authentic events that changed nothing in the last 24 hours: 1",
            "not registered at the provider",
        ):
            assert words in output, command
    (checked,) = json.loads(commands.run("sources", "check", "main", "--json", code=1))
    assert (checked["set_aside"], checked["enrolled"]) == (1, False)
    assert checked["findings"]


def test_the_credentials_of_every_provider_are_in_the_help_and_in_the_documentation(commands: Commands) -> None:
    shown = " ".join(commands.run("sources", "add", "--help").split())
    page = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
    for name, provider in PROVIDERS.items():
        for field in provider.credential_fields:
            assert f"`{field.name}" in shown, name
            assert f"`{field.name}`" in page, name
        assert f"--provider {name} " in page
    for line in re.findall(r"^    (tidings .*)$", page, re.MULTILINE):
        parse_command(line)
    refused = commands.run("sources", "add", "x", "--provider", "mailwebhook", "--credentials", "{}", code=2)
    assert "`signing_secrets`" in refused


MAPPING = """
authentication: {kind: header, header: X-Token}
items: events
fields: {type: event, recipient: email, event_id: id}
types: {delivery: delivered}
"""
SAMPLE = b'{"events": [{"event": "delivery", "email": "ann@example.net", "id": "e"}, {"event": "other", "id": "f"}]}'


def test_a_mapping_is_tried_on_a_sample_and_then_stored(commands: Commands, tmp_path: Path) -> None:
    mapping, sample = tmp_path / "mapping.yaml", tmp_path / "sample.json"
    mapping.write_text(MAPPING)
    sample.write_bytes(SAMPLE)
    output = commands.run("sources", "try", str(sample), "--mapping", f"@{mapping}", code=1)
    assert '"type":"delivered"' in output
    assert "Events: 2, not understood: 1" in output
    credentials = json.dumps({"value": SECRET})
    given = ("--provider", "generic", "--setting", f"generic=@{mapping}", "--credentials", credentials)
    commands.run("sources", "add", "acme", *given)
    assert commands.system.get("/v1/sources/acme")["settings"]["generic"]["types"] == {"delivery": "delivered"}
    headers = ("--header", f"X-Token: {SECRET}")
    assert "would accept it" in commands.run("sources", "try", str(sample), "--source", "acme", *headers, code=1)
    refused = commands.run("sources", "try", str(sample), "--source", "acme", "--header", "X-Token: x", code=1)
    assert "would refuse it: bad_credentials" in refused


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        (MAPPING.replace("recipient", "recipent"), "settings.generic.fields.recipent is unknown. Did you mean"),
        ("{", "is neither YAML nor JSON"),
        ("5", "settings.generic must be an object"),
    ],
)
def test_a_mistake_in_a_mapping_is_named(commands: Commands, tmp_path: Path, mapping: str, sentence: str) -> None:
    sample = tmp_path / "sample.json"
    sample.write_bytes(SAMPLE)
    output = commands.run("sources", "try", str(sample), "--mapping", mapping, code=2)
    assert sentence in " ".join(output.split())
    assert "Traceback" not in output
    given = ("--setting", f"generic={mapping}", "--credentials", '{"value": "x"}')
    output = commands.run("sources", "add", "acme", "--provider", "generic", *given, code=2)
    assert sentence in " ".join(output.split())


def test_only_a_generic_source_has_a_mapping(commands: Commands) -> None:
    given = ("--setting", f"generic={MAPPING}", "--credentials", HOOK)
    output = commands.run("sources", "add", "main", "--provider", "mailwebhook", *given, code=2)
    assert "has a built-in adapter" in output
