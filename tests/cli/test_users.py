"""`tidings users`: adding, listing and disabling users of the console, and links that sign in."""

import json

from tests.support.command_line import Commands

PASSWORD = "correct horse battery"


def test_a_user_is_added_listed_and_disabled(commands: Commands) -> None:
    added = commands.run("users", "add", "Ann@Example.com", "--role", "operator", says=f"{PASSWORD}\n")
    assert added == "ann@example.com may sign in as operator.\n"
    (shown,) = json.loads(commands.run("users", "list", "--json"))
    assert (shown["email"], shown["role"], shown["tenant"], shown["disabled_at"]) == (
        "ann@example.com", "operator", None, None,
    )  # fmt: skip
    assert "password" not in " ".join(shown)
    assert "ann@example.com is disabled." in commands.run("users", "disable", "ann@example.com")
    assert json.loads(commands.run("users", "list", "--json"))[0]["disabled_at"] is not None
    commands.run("users", "password", "ann@example.com", says=f"{PASSWORD} staple\n")
    assert json.loads(commands.run("users", "list", "--json"))[0]["disabled_at"] is None
    actions = commands.system.rows("SELECT action FROM audit_log ORDER BY at")
    assert [row[0] for row in actions] == ["user.created", "user.disabled", "user.password_set"]


def test_what_cannot_be_used_is_named(commands: Commands) -> None:
    assert "12 to 200 characters" in commands.run("users", "add", "ann@example.com", says="short\n", code=2)
    assert "domain" in commands.run("users", "add", "@example.com", says=f"{PASSWORD}\n", code=2)
    assert "tidings users list" in commands.run("users", "disable", "nobody@example.com", code=2)


def test_a_link_is_a_path_of_the_console(commands: Commands) -> None:
    assert commands.run("users", "link").startswith("/console/login?link=")
