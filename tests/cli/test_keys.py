"""`tidings keys`, and how commands find the system to work on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.encryption import Vault, new_key
from shared.suppression import recipient_hashes
from tests.support.command_line import Commands


def test_a_key_opens_the_api_until_it_is_revoked(commands: Commands) -> None:
    output = commands.run("keys", "create", "billing", "--scope", "admin")
    key = output.splitlines()[0]
    commands.system.key = key
    (row,) = commands.system.get("/v1/keys")["items"]
    listed = commands.run("keys", "list")
    assert "billing" in listed
    assert key not in listed
    commands.run("keys", "revoke", str(row["id"]))
    assert commands.system.call("GET", "/v1/keys").status_code == 401
    assert "no valid key" in commands.run("keys", "revoke", str(row["id"]), code=2)


def test_a_fresh_secret_key_can_be_used(commands: Commands) -> None:
    vault = Vault([commands.run("keys", "secret").strip()])
    assert vault.open(vault.seal({"a": "b"})) == {"a": "b"}


def test_without_settings_the_one_that_runs_is_found_by_its_data(commands: Commands, tmp_path: Path) -> None:
    url, key = commands.settings["TIDINGS_DATABASE_URL"], commands.settings["TIDINGS_SECRET_KEYS"]
    (tmp_path / "ready.json").write_text(json.dumps({"database_url": url, "broker_url": ""}))
    (tmp_path / "secret_keys").write_text(f"{key}\n")
    unset = Commands(commands.system, {"TIDINGS_DATABASE_URL": "", "TIDINGS_SECRET_KEYS": ""})
    commands.system.create_source(provider="cloudmailin", username="u", password="a long password")
    assert "main" in unset.run("sources", "list", "--data", str(tmp_path))
    assert "can be read" in unset.run("sources", "check", "--data", str(tmp_path))


def test_a_tidings_that_is_nowhere_is_said_so(commands: Commands, tmp_path: Path) -> None:
    unset = Commands(commands.system, {"TIDINGS_DATABASE_URL": ""})
    assert "TIDINGS_DATABASE_URL is not set" in unset.run("keys", "list", "--data", str(tmp_path), code=2)
    away = Commands(commands.system, {"TIDINGS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"})
    assert "cannot be reached" in away.run("keys", "list", code=2)


def test_a_database_that_was_not_migrated_is_said_so(commands: Commands, empty_database: str) -> None:
    empty = Commands(commands.system, {"TIDINGS_DATABASE_URL": empty_database})
    output = empty.run("keys", "list", code=2)
    assert 'relation "api_keys" does not exist' in output
    assert "tidings migrate" in output


def test_a_key_of_a_tenant_is_made_by_naming_it(commands: Commands) -> None:
    output = commands.run("keys", "create", "acme's own", "--scope", "write", "--tenant", "acme")
    commands.system.key = output.splitlines()[0]
    assert commands.system.call("GET", "/v1/messages").status_code == 200
    assert commands.system.call("GET", "/v1/sources").status_code == 403
    assert "acme" in commands.run("keys", "list")


def test_a_tenant_without_a_name_makes_no_key_to_everything(commands: Commands) -> None:
    assert "--tenant is empty" in commands.run("keys", "create", "acme's own", "--tenant", "", code=2)
    assert commands.system.get("/v1/keys")["items"] == []


@pytest.mark.parametrize("name", ["", " ", "x" * 101])
def test_a_key_has_a_name_of_limited_length(commands: Commands, name: str) -> None:
    assert "1 to 100 characters" in commands.run("keys", "create", name, code=2)
    assert commands.system.get("/v1/keys")["items"] == []


def test_an_argument_that_is_no_text_is_said_so(commands: Commands) -> None:
    assert "not valid UTF-8" in commands.run("keys", "create", "\udcff", code=2)


@pytest.mark.parametrize(
    ("streams", "code", "sentence"),
    [
        (">&-", 0, ""),
        ("2>&- >&- <&-", 0, ""),
        ("> /dev/full", 2, "Error: Cannot write the output: No space left on device."),
        ("", 0, "caf?"),
    ],
)
def test_a_standard_stream_that_cannot_be_used_ends_no_command_with_a_traceback(
    commands: Commands, streams: str, code: int, sentence: str
) -> None:
    commands.run("keys", "create", "café")
    ended = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m cli.main keys list {streams}'],
        env={**os.environ, **commands.settings, "PYTHONIOENCODING": "ascii"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert sentence in ended.stdout + ended.stderr


def test_what_a_command_changes_is_in_the_audit_log(commands: Commands) -> None:
    commands.run("keys", "create", "billing")
    (entry,) = commands.system.get("/v1/audit", actor="command")["items"]
    assert entry["action"] == "key.created"
    assert entry["actor"].startswith("command:")
    assert entry["details"] == {"name": "billing", "scope": "read", "tenant": None}


class TestTheSettingsOfTheRunningSystem:
    """Commands judge as the processes do."""

    def running(self, commands: Commands, data: Path, **settings: str) -> Commands:
        url, key = commands.settings["TIDINGS_DATABASE_URL"], commands.settings["TIDINGS_SECRET_KEYS"]
        facts = {"database_url": url, "broker_url": "", "settings": settings}
        (data / "ready.json").write_text(json.dumps(facts))
        (data / "secret_keys").write_text(f"{key}\n")
        return Commands(commands.system, {"TIDINGS_DATABASE_URL": "", "TIDINGS_SECRET_KEYS": ""})

    def test_allow_what_it_may_call(self, commands: Commands, tmp_path: Path) -> None:
        add = ("subscriptions", "add", "http://127.0.0.1:9/", "--type", "*", "--data", str(tmp_path))
        running = self.running(commands, tmp_path, TIDINGS_EGRESS_ALLOW="")
        running.run(*add, code=2)
        running = self.running(commands, tmp_path, TIDINGS_EGRESS_ALLOW="127.0.0.0/8")
        running.run(*add)

    def test_are_not_overridden_by_the_shell(self, commands: Commands, tmp_path: Path) -> None:
        running = self.running(commands, tmp_path, TIDINGS_EGRESS_ALLOW="")
        shell = Commands(commands.system, {**running.settings, "TIDINGS_EGRESS_ALLOW": "127.0.0.0/8"})
        said = shell.run("subscriptions", "add", "http://127.0.0.1:9/", "--type", "*", "--data", str(tmp_path), code=2)
        assert "TIDINGS_EGRESS_ALLOW differs" in said

    def test_have_a_secret_key_that_opens_what_is_stored(self, commands: Commands) -> None:
        with commands.system.engine.begin() as connection:
            recipient_hashes.load(connection, commands.system.vault)  # as every worker does when it starts
        other = Commands(commands.system, {**commands.settings, "TIDINGS_SECRET_KEYS": new_key()})
        credentials = '{"username": "u", "password": "a long password"}'
        said = other.run("sources", "add", "cm", "--provider", "cloudmailin", "--credentials", credentials, code=2)
        assert "None of TIDINGS_SECRET_KEYS decrypts" in said
        assert commands.system.list_items("/v1/sources") == []


def test_a_setting_that_does_not_exist_is_refused_with_the_nearest_one(commands: Commands) -> None:
    mistyped = Commands(commands.system, {**commands.settings, "TIDINGS_BATCHSIZE": "10"})
    assert "TIDINGS_BATCHSIZE is not a setting. Did you mean 'TIDINGS_BATCH_SIZE'?" in mistyped.run(
        "keys", "list", code=2
    )
