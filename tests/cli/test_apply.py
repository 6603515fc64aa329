"""`tidings apply` makes the configuration as a file declares it, all or nothing; `tidings config` shows it, masked."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.auth import keys
from tests.support.command_line import Commands

SECRET = "tdk_" + "s" * 40
PASSWORD = "a long password"
FILE = """
sources:
  - slug: shop
    provider: cloudmailin
    credentials: {username: ann, password: env:SHOP_PASSWORD}
    settings: {webhook_url: "https://hooks.example.com/webhooks/shop"}
rules:
  - {name: shop-bounces, kind: rate, rate: bounce, sources: [shop], warning: 5 %}
channels:
  - {name: on-call, kind: webhook, url: "http://127.0.0.1:9/x", least_severity: critical, sources: [shop]}
subscriptions:
  - name: billing
    url: http://127.0.0.1:9/hook?token=abc
    types: [message.*]
    sources: [shop]
    headers: {Authorization: env:SHOP_PASSWORD}
keys:
  - {name: reader, scope: read}
  - {name: writer, scope: write, tenant: acme, secret: file:key}
"""
COUNTED = ("sources", "alert-rules", "alert-channels", "subscriptions", "keys", "audit")


@pytest.fixture
def file(commands: Commands, tmp_path: Path) -> Path:
    """A file with one object of each kind, and the secrets that it names."""
    commands.settings.update({"SHOP_PASSWORD": PASSWORD, "TIDINGS_EGRESS_ALLOW": "127.0.0.0/8"})
    (tmp_path / "key").write_text(f"{SECRET}\n")
    path = tmp_path / "tidings.yaml"
    path.write_text(FILE)
    return path


def apply(commands: Commands, path: Path, *words: str, code: int = 0) -> str:
    return commands.run("apply", "-f", str(path), *words, code=code)


def outcomes(commands: Commands, path: Path, *words: str) -> dict[str, dict[str, Any]]:
    """Apply a file; what was done, by kind and name."""
    found = [json.loads(line) for line in apply(commands, path, "--json", *words).splitlines()]
    return {f"{one['kind']} {one['name']}": one for one in found}


def stored(commands: Commands) -> dict[str, list[dict[str, Any]]]:
    """All that a file can declare, and the audit log, as the API lists them."""
    return {name: commands.system.list_items(f"/v1/{name}") for name in COUNTED}


def test_what_is_declared_is_created_and_repeating_it_changes_nothing(commands: Commands, file: Path) -> None:
    output = apply(commands, file)
    assert "6 created, 0 changed, 0 unchanged." in output
    assert output.count("whsec_") == 2
    assert PASSWORD not in output
    assert SECRET not in output
    before = stored(commands)
    assert {one["action"] for one in before["audit"]} >= {
        "source.created", "alert_rule.created", "alert_channel.created", "subscription.created", "key.created"
    }  # fmt: skip
    assert "0 created, 0 changed, 6 unchanged." in apply(commands, file)
    assert stored(commands) == before
    commands.system.key = SECRET
    assert commands.system.call("GET", "/v1/messages").status_code == 200


def test_a_dry_run_shows_the_difference_and_changes_nothing(commands: Commands, file: Path) -> None:
    before = stored(commands)
    output = apply(commands, file, "--dry-run")
    assert "+ subscription billing" in output
    assert "this is a dry run" in output
    assert "whsec_" not in output
    assert stored(commands) == before


def test_what_differs_is_changed_and_shown_without_secrets(commands: Commands, file: Path) -> None:
    apply(commands, file)
    text = FILE.replace("5 %", "7 %").replace("message.*", "message.bounced").replace("critical", "warning")
    file.write_text(text.replace("hooks.example", "hook.example").replace("token=abc", "token=xyz"))
    commands.settings["SHOP_PASSWORD"] = "another long password"
    (file.parent / "key").write_text("tdk_" + "t" * 40)
    changed = outcomes(commands, file)
    assert changed["source shop"]["changes"] == {
        "credentials.password": "changed",
        "settings.webhook_url": {
            "before": "https://hooks.example.com/webhooks/shop",
            "after": "https://hook.example.com/webhooks/shop",
        },
    }
    assert changed["rule shop-bounces"]["changes"] == {"warning": {"before": "5 %", "after": "7 %"}}
    assert changed["channel on-call"]["changes"] == {"least_severity": {"before": "critical", "after": "warning"}}
    assert changed["subscription billing"]["changes"] == {
        "types": {"before": ["message.*"], "after": ["message.bounced"]},
        "headers.Authorization": "changed",
        "url": "changed",
    }
    assert changed["key writer"]["changes"] == {"secret": "changed"}
    assert changed["key reader"]["action"] == "unchanged"
    with commands.system.engine.begin() as connection:
        assert keys.authenticate(connection, SECRET) is None
    assert {one["action"] for one in outcomes(commands, file).values()} == {"unchanged"}


def test_a_field_that_is_left_out_has_its_default_again(commands: Commands, file: Path) -> None:
    apply(commands, file)
    file.write_text(FILE.replace("    sources: [shop]\n", "").replace("    settings:", "    # settings:"))
    changed = outcomes(commands, file)
    assert changed["subscription billing"]["changes"] == {"sources": {"before": ["shop"], "after": []}}
    assert changed["source shop"]["changes"]["settings.webhook_url"]["after"] is None


def test_what_the_file_does_not_name_stays(commands: Commands, file: Path) -> None:
    commands.run("keys", "create", "other")
    apply(commands, file)
    commands.run("sources", "quarantine", "shop")
    file.write_text("keys: []")
    assert outcomes(commands, file) == {}
    file.write_text(FILE)
    assert {one["action"] for one in outcomes(commands, file).values()} == {"unchanged"}
    assert len(commands.system.list_items("/v1/keys")) == 3


def test_secrets_are_rotated_with_the_overlap_of_a_rotation(commands: Commands, file: Path) -> None:
    apply(commands, file)
    secret = "whsec_" + "A" * 44
    for section in ("types: [message.*]", "least_severity: critical"):
        separator = "\n    " if section.startswith("types") else ", "
        file.write_text(file.read_text().replace(section, f"{section}{separator}secret: {secret}"))
    changed = outcomes(commands, file)
    assert changed["subscription billing"]["changes"] == changed["channel on-call"]["changes"] == {"secret": "changed"}
    (subscription,) = commands.system.list_items("/v1/subscriptions")
    assert len(subscription["signing"]) == 2
    assert {one["action"] for one in outcomes(commands, file).values()} == {"unchanged"}


@pytest.mark.parametrize(
    ("old", "new", "where", "sentence"),
    [
        ("settings:", "setings:", "6:5: sources[0].setings", "Did you mean 'settings'?"),
        ("rate: bounce", "rate: bonce", "8:44: rules[0].rate", "Did you mean 'bounce'?"),
        ("scope: write", "scope: wirte", "19:27: keys[1].scope", "Did you mean 'write'?"),
        ("name: reader", "name: writer", "19:12: keys[1].name", "expected a name that keys[0] does not have"),
        ("ann, password: env:SHOP_PASSWORD", "ann, password: env:NO", "5:44: sources[0].credentials", "not set"),
        ("file:key", "file:kee", "19:56: keys[1].secret", "'kee' cannot be read"),
        ("file:key", "file:/dev/zero", "19:56: keys[1].secret", "'/dev/zero' cannot be read: it is larger than"),
        ("username: ann", "usrname: ann", "5:28: sources[0].credentials.usrname", "Did you mean 'username'?"),
        ("provider: cloudmailin", "provider: cloudmailn", "4:15: sources[0].provider", "Did you mean 'cloudmailin'?"),
        ("[message.*]", "[message.bonced]", "14:12: subscriptions[0].types", "Did you mean 'message.bounced'?"),
        ("http://127.0.0.1:9/hook", "http://10.0.0.1/hook", "13:10: subscriptions[0].url", "not a public address"),
        ("critical, sources: [shop]", "critical, sources: [shp]", "10:", "Did you mean 'shop'?"),
        ("name: shop-bounces", "name: bounce-rate", "8:5: rules[0]", "cannot be changed"),
        ("token=abc", "••••", "13:10: subscriptions[0].url", "was masked"),
        ("file:key", "short", "19:56: keys[1].secret", "32 to 190"),
        ("\nkeys:", "\nkees: []\nkeys:", "17:1: kees", "Did you mean 'keys'?"),
        ("slug: shop", "slug: [shop", "4:13", "expected YAML"),
        ("name: reader", 'name: "a\\0b"', "18:12: keys[0].name", "found the character U+0000"),
        ("name: reader", 'name: "a\\ud800"', "18:12: keys[0].name", "found the character U+D800"),
        ("{Authorization: env:SHOP_PASSWORD}", "{X-A: {a: b}}", "16:20: subscriptions[0].headers.X-A", "a mapping"),
    ],
)  # fmt: skip
def test_an_error_has_its_position_and_nothing_is_changed(
    commands: Commands, file: Path, old: str, new: str, where: str, sentence: str
) -> None:
    assert old in FILE
    file.write_text(FILE.replace(old, new))
    output = apply(commands, file, code=1)
    (line,) = (line for line in output.splitlines() if sentence in line)
    assert line.startswith(f"{file}:{where}")
    assert "Nothing was changed." in output
    assert commands.system.list_items("/v1/audit") == []


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("{username: ann, password: env:SHOP_PASSWORD}", "hunter2", "sources[0].credentials: "),
        ("password: env:SHOP_PASSWORD}", "password: [hunter2]}", "sources[0].credentials"),
        ("password: env:SHOP_PASSWORD}", "password: !hunter2 x}", "sources[0].credentials.password: "),
        ("password: env:SHOP_PASSWORD}", "password: '!hunter2'\n      hunter2: 1}", "expected YAML"),
        ("password: env:SHOP_PASSWORD}", "password: !hunter2!x y}", "expected YAML"),
        ("password: env:SHOP_PASSWORD}", "password: *hunter2}", "sources[0].credentials.password: "),
        ("password: env:SHOP_PASSWORD}", "password: &hunter2 }", "sources[0].credentials.password: "),
        ("{Authorization: env:SHOP_PASSWORD}", "{Authorization: [hunter2]}", "subscriptions[0].headers.Authorization"),
        ("{Authorization: env:SHOP_PASSWORD}", "hunter2", "subscriptions[0].headers: "),
        ("{Authorization: env:SHOP_PASSWORD}", "{Authorization: 7777777}", "subscriptions[0].headers.Authorization"),
        ("secret: file:key", "secret: 7777777", "keys[1].secret: "),
        ("secret: file:key", "secret: hunter2", "keys[1].secret: "),
        ("least_severity: critical", "secret: 7777777", "channels[0].secret: "),
        ("least_severity: critical", "secret: whsec_hunter2", "channels[0]"),
        ("types: [message.*]", "types: [message.*]\n    secret: whsk_hunter2", "subscriptions[0]"),
        ("http://127.0.0.1:9/hook?token=abc", "ftp://127.0.0.1/hunter2", "subscriptions[0].url: "),
        ("http://127.0.0.1:9/hook?token=abc", "http://a:hunter2@127.0.0.1/", "subscriptions[0].url: "),
        ("http://127.0.0.1:9/x", "hunter2", "channels[0].url: "),
        ("  - {name: reader, scope: read}", "  - tdk_hunter2", "keys[0]: "),
    ],
)  # fmt: skip
def test_no_error_quotes_a_secret(commands: Commands, file: Path, old: str, new: str, where: str) -> None:
    assert old in FILE
    file.write_text(FILE.replace(old, new))
    output = apply(commands, file, code=1)
    assert where in output
    assert "hunter2" not in output
    assert "7777777" not in output


def test_all_errors_are_reported_at_once(commands: Commands, file: Path) -> None:
    file.write_text(FILE.replace("username", "usrname").replace("[message.*]", "[message.bonced]"))
    output = apply(commands, file, code=1)
    assert "'username'" in output
    assert "'message.bounced'" in output


def test_what_cannot_be_changed_is_refused_with_what_to_do(commands: Commands, file: Path) -> None:
    apply(commands, file)
    file.write_text(FILE.replace("scope: read}", "scope: admin}").replace("kind: webhook", "kind: apprise"))
    output = apply(commands, file, code=1)
    assert "tidings keys revoke" in output
    file.write_text(
        FILE.replace("cloudmailin", "postal").replace(
            "{username: ann, password: env:SHOP_PASSWORD}\n    s", "{jwks: {keys: []}}\n    s"
        )
    )
    assert "The provider of a source cannot be changed" in apply(commands, file, code=1)


def test_the_configuration_in_effect_is_shown_without_secrets(commands: Commands, file: Path) -> None:
    apply(commands, file)
    output = commands.run("config")
    shown = yaml.safe_load(output)
    assert shown == json.loads(commands.run("config", "--json"))
    assert shown["sources"][0]["credentials"]["username"] == "ann"
    assert shown["rules"] == [{**shown["rules"][0], "name": "shop-bounces", "warning": 5.0}]
    assert "bounce-rate" in {rule["name"] for rule in shown["rules_of_file"]}
    assert shown["subscriptions"][0]["name"] == "billing"
    assert shown["channels"][0]["least_severity"] == "critical"
    assert [key["name"] for key in shown["keys"]] == ["writer", "reader"]
    assert shown["settings"]["TIDINGS_EGRESS_ALLOW"] == ["127.0.0.0/8"]
    for secret in (PASSWORD, SECRET, "token=abc", commands.settings["TIDINGS_SECRET_KEYS"]):
        assert secret not in output
    password = commands.system.database_url.partition("@")[0].rpartition(":")[2]
    assert password not in output
