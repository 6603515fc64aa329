"""`tidings suppressions push` and `pull`: show how the lists differ, then copy from one to the other."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from shared.addresses import parse_target
from shared.suppression import queries as suppression_queries
from shared.suppression import recipient_hashes
from shared.suppression import store as suppressions
from shared.suppression.queries import SuppressionFilters
from shared.suppression.store import Entry, NewEntry
from shared.vocabulary import ALL_MAIL, MailType, SuppressionOrigin, SuppressionReason
from simulator.providers.ark.api import ArkAccount
from simulator.providers.mailchannels.api import MailChannelsAccount
from tests.support.command_line import Commands
from tests.support.provider_env import ProviderEnv, open_provider_env

NOW = datetime.now(UTC)
HANDLE = "acmeco"
ONLY_NEWS = frozenset({MailType.NON_TRANSACTIONAL})


@dataclass
class SyncEnv:
    """Both lists, and the commands that compare them."""

    env: ProviderEnv
    commands: Commands

    def run(self, *words: str, says: str | None = None, code: int = 0) -> str:
        return self.commands.run("suppressions", *words, says=says, code=code)

    @property
    def mailchannels(self) -> MailChannelsAccount:
        return self.env.server.account("mc", MailChannelsAccount)

    @property
    def ark(self) -> ArkAccount:
        return self.env.server.account("ark", ArkAccount)

    def add(
        self,
        text: str,
        *,
        types: frozenset[MailType] = ALL_MAIL,
        reason: SuppressionReason = SuppressionReason.HARD_BOUNCE,
        tenant: str = "",
        until: datetime | None = None,
    ) -> None:
        target = parse_target(text)
        with self.env.system.ctx.engine.begin() as connection:
            keys = recipient_hashes.load(connection, self.env.system.ctx.vault)
            entry = NewEntry(
                key=keys.hash_target(target),
                address=target.address,
                domain=target.domain,
                reason=reason,
                types=types,
                origin=SuppressionOrigin.PERSON,
                since=NOW,
                tenant=tenant,
                until=until,
                note="asked us",
            )
            suppressions.add(connection, [entry], NOW)

    def audited(self) -> list[tuple[str, str, dict[str, int]]]:
        return self.env.system.rows("SELECT action, object, details FROM audit_log ORDER BY id")

    def lift(self, address: str) -> None:
        with self.env.system.ctx.engine.begin() as connection:
            keys = recipient_hashes.load(connection, self.env.system.ctx.vault)
            suppressions.lift(
                connection,
                keys=[keys.hash_address(address)],
                tenant=None,
                reason=None,
                actor="ann",
                note=None,
                now=datetime.now(UTC),
            )

    def here(self) -> dict[str, Entry]:
        with self.env.system.ctx.engine.begin() as connection:
            page = suppression_queries.list_by_key(connection, NOW, SuppressionFilters(active=True), limit=1000)
        return {entry.address or f"@{entry.domain}": entry for entry in page.items}

    def there(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for entry in self.mailchannels.suppressions.select({}):
            found.setdefault(entry["recipient"], set()).update(entry["suppression_types"])
        return found


@pytest.fixture
def sync_env(database_url: str) -> Iterator[SyncEnv]:
    with open_provider_env(database_url) as env:
        yield SyncEnv(env, Commands(env.system, env.system.environment))


class TestPush:
    def test_adds_what_is_missing_there_and_touches_nothing_else(self, sync_env: SyncEnv) -> None:
        sync_env.mailchannels.suppressions.put("there@x.example")
        sync_env.mailchannels.suppressions.put("both@x.example")
        sync_env.add("both@x.example")
        sync_env.add("here@x.example")
        sync_env.add("news@x.example", types=ONLY_NEWS, reason=SuppressionReason.UNSUBSCRIBE)
        output = sync_env.run("push", "--source", "mc", "--yes")
        assert "2 here, and not at mailchannels" in output
        assert "1 at mailchannels, and not here" in output
        assert "2 of 2 entries were added" in output
        both = {"transactional", "non-transactional"}
        assert sync_env.there() == {
            "there@x.example": both,
            "both@x.example": both,
            "here@x.example": both,
            "news@x.example": {"non-transactional"},
        }
        (entry,) = sync_env.mailchannels.suppressions.select({"recipient": "here@x.example"})
        assert entry["notes"] == f"Tidings: hard bounce since {NOW:%Y-%m-%d}; asked us"
        assert "2 here" not in sync_env.run("push", "--source", "mc")
        assert sync_env.audited() == [("suppressions.pushed", "source:mc", {"adding": 2, "removing": 0})]

    def test_shows_and_asks_first(self, sync_env: SyncEnv) -> None:
        sync_env.add("here@x.example")
        assert "here@x.example" in sync_env.run("push", "--source", "mc", "--dry-run")
        found = json.loads(sync_env.run("push", "--source", "mc", "--dry-run", "--json").splitlines()[-1])
        assert [one["address"] for one in found["only_here"]] == ["here@x.example"]
        assert found["added"] == 0
        assert "here@x.example" in sync_env.run("push", "--source", "mc", says="n\n", code=1)
        assert sync_env.there() == {}
        assert sync_env.audited() == []

    def test_leaves_at_home_what_is_over_or_of_others_or_cannot_be_said(self, sync_env: SyncEnv) -> None:
        sync_env.add("over@x.example", until=NOW + timedelta(microseconds=1))
        sync_env.add("another@x.example", tenant="somebody else")
        sync_env.add("@x.example")
        sync_env.add("own@x.example", tenant=HANDLE)
        output = sync_env.run("push", "--source", "mc", "--yes")
        assert "1 of our entries cannot be added at mailchannels" in output
        assert sync_env.there().keys() == {"own@x.example"}

    def test_makes_good_what_is_there_for_less_mail(self, sync_env: SyncEnv) -> None:
        sync_env.mailchannels.suppressions.put("less@x.example", "unsubscribe_link", ("non-transactional",))
        sync_env.add("less@x.example")
        output = sync_env.run("push", "--source", "mc", "--yes")
        assert "1 on both, for different mail" in output
        assert sync_env.there() == {"less@x.example": {"transactional", "non-transactional"}}

    def test_says_what_the_provider_does_not_let_it_change(self, sync_env: SyncEnv) -> None:
        sync_env.mailchannels.suppressions.put("less@x.example", "api", ("non-transactional",))
        sync_env.add("less@x.example")
        output = sync_env.run("push", "--source", "mc", "--yes")
        assert "0 of 1 entries were added" in output
        assert "cannot be changed" in output

    def test_deletes_only_with_the_option(self, sync_env: SyncEnv) -> None:
        sync_env.mailchannels.suppressions.put("there@x.example")
        sync_env.add("here@x.example")
        sync_env.run("push", "--source", "mc", "--yes")
        assert "there@x.example" in sync_env.there()
        output = sync_env.run("push", "--source", "mc", "--delete", says="y\n")
        assert "remove 1 addresses there?" in output
        assert sync_env.there().keys() == {"here@x.example"}

    def test_does_not_push_what_the_provider_has_removed(self, sync_env: SyncEnv) -> None:
        sync_env.mailchannels.suppressions.put("gone@x.example")
        sync_env.run("pull", "--source", "mc", "--yes")
        sync_env.mailchannels.suppressions.remove("gone@x.example", "all")
        sync_env.run("push", "--source", "mc", "--yes")
        assert sync_env.there() == {}

    def test_pushes_to_ark_only_entries_for_all_mail(self, sync_env: SyncEnv) -> None:
        """Ark does not tell kinds of mail apart: who wants no newsletter would get no invoice either."""
        sync_env.add("all@x.example")
        sync_env.add("news@x.example", types=ONLY_NEWS, reason=SuppressionReason.UNSUBSCRIBE)
        output = sync_env.run("push", "--source", "ark", "--yes")
        assert "1 of our entries cannot be added at ark" in output
        assert [(one.address, one.reason) for one in sync_env.ark.suppressions.all()] == [
            ("all@x.example", "hard fail")
        ]


class TestPull:
    def test_adds_what_is_missing_here_in_our_words(self, sync_env: SyncEnv) -> None:
        listed = sync_env.mailchannels.suppressions
        listed.put("Gone@X.example", "hard_bounce")
        listed.put("spam@x.example", "spam_complaint")
        listed.put("news@x.example", "unsubscribe_link", ("non-transactional",))
        listed.put("hand@x.example", "api")
        sync_env.add("hand@x.example")
        output = sync_env.run("pull", "--source", "mc", "--yes")
        assert "3 at mailchannels, and not here" in output
        assert "3 entries were added here" in output
        found = sync_env.here()
        assert {name: entry.reason for name, entry in found.items() if entry.origin == SuppressionOrigin.PROVIDER} == {
            "gone@x.example": SuppressionReason.HARD_BOUNCE,
            "spam@x.example": SuppressionReason.COMPLAINT,
            "news@x.example": SuppressionReason.UNSUBSCRIBE,
        }
        assert found["news@x.example"].types == [MailType.NON_TRANSACTIONAL]
        assert (found["gone@x.example"].source, found["gone@x.example"].tenant) == ("mc", HANDLE)
        assert "The lists agree" in sync_env.run("pull", "--source", "mc")
        assert sync_env.audited() == [("suppressions.pulled", "source:mc", {"adding": 3})]

    def test_shows_and_asks_first(self, sync_env: SyncEnv) -> None:
        sync_env.mailchannels.suppressions.put("there@x.example")
        assert "there@x.example" in sync_env.run("pull", "--source", "mc", "--dry-run")
        found = json.loads(sync_env.run("pull", "--source", "mc", "--dry-run", "--json").splitlines()[-1])
        assert [one["address"] for one in found["only_there"]] == ["there@x.example"]
        assert "there@x.example" in sync_env.run("pull", "--source", "mc", says="n\n", code=1)
        assert sync_env.here() == {}

    def test_respects_what_a_person_has_lifted(self, sync_env: SyncEnv) -> None:
        sync_env.mailchannels.suppressions.put("forgiven@x.example")
        sync_env.run("pull", "--source", "mc", "--yes")
        sync_env.lift("forgiven@x.example")
        output = sync_env.run("pull", "--source", "mc", "--yes")
        assert "0 entries were added here" in output
        assert "lifted" in output
        assert sync_env.here() == {}

    def test_unites_what_the_provider_says_in_several_words(self, sync_env: SyncEnv) -> None:
        listed = sync_env.mailchannels.suppressions
        listed.put("twice@x.example", "unsubscribe_link", ("non-transactional",))
        listed.put("twice@x.example", "list_unsubscribe", ("transactional",))
        sync_env.run("pull", "--source", "mc", "--yes")
        assert set(sync_env.here()["twice@x.example"].types) == ALL_MAIL
        assert "The lists agree" in sync_env.run("pull", "--source", "mc")

    def test_skips_invalid_addresses(self, sync_env: SyncEnv) -> None:
        sync_env.mailchannels.suppressions.put("no address")
        sync_env.mailchannels.suppressions.put("good@x.example")
        assert "1 entries at mailchannels are not addresses" in sync_env.run("pull", "--source", "mc", "--yes")
        assert sync_env.here().keys() == {"good@x.example"}

    def test_of_arks_list_takes_an_opt_out_for_what_it_is(self, sync_env: SyncEnv) -> None:
        sync_env.ark.suppressions.put("gone@x.example", "hard fail")
        sync_env.ark.suppressions.put("news@x.example", "unsubscribe")
        sync_env.run("pull", "--source", "ark", "--yes")
        found = sync_env.here()
        assert set(found["gone@x.example"].types) == ALL_MAIL
        assert found["news@x.example"].types == [MailType.NON_TRANSACTIONAL]
        assert found["gone@x.example"].tenant == "tnt_acme"

    def test_of_thousands_is_read_whole(self, sync_env: SyncEnv) -> None:
        for number in range(2300):
            sync_env.mailchannels.suppressions.put(f"r{number}@x.example")
        assert "2300 entries were added here" in sync_env.run("pull", "--source", "mc", "--yes")


def test_a_source_without_an_api_is_explained(sync_env: SyncEnv) -> None:
    sync_env.env.system.add_source("cloud", "cloudmailin", {"username": "ann", "password": "hunter2-hunter2"})
    assert "CloudMailin has no API" in sync_env.run("pull", "--source", "cloud", code=2)
