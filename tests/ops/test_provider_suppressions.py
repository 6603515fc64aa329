"""`tidings suppressions push` and `pull`: first how the lists differ, then one learns from the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from cli.main import main
from shared import targets
from shared.encryption import new_key
from shared.suppression import queries as suppression_pages
from shared.suppression import recipient_hashes
from shared.suppression import store as suppressions
from shared.suppression.queries import Wanted
from shared.suppression.store import Entry, NewEntry
from shared.vocabulary import ALL_MAIL, MailType, SuppressionOrigin, SuppressionReason
from simulator.providers.ark.api import ArkAccount
from simulator.providers.mailchannels.api import MailChannelsAccount
from tests.management import scene as scenes
from tests.management.scene import Scene

NOW = datetime.now(UTC)
HANDLE = "acmeco"
ONLY_NEWS = frozenset({MailType.NON_TRANSACTIONAL})


@dataclass
class Desk:
    """Both lists, and the commands that compare them."""

    scene: Scene
    settings: dict[str, str]

    def run(self, *words: str, says: str | None = None, code: int = 0) -> str:
        environment = {"COLUMNS": "200", **self.settings}
        result = CliRunner().invoke(main, ("suppressions", *words), input=says, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    @property
    def mailchannels(self) -> MailChannelsAccount:
        return self.scene.server.account("mc", MailChannelsAccount)

    @property
    def ark(self) -> ArkAccount:
        return self.scene.server.account("ark", ArkAccount)

    def add(
        self,
        text: str,
        *,
        types: frozenset[MailType] = ALL_MAIL,
        reason: SuppressionReason = SuppressionReason.HARD_BOUNCE,
        tenant: str = "",
        until: datetime | None = None,
    ) -> None:
        target = targets.read(text)
        with self.scene.workshop.ctx.engine.begin() as connection:
            keys = recipient_hashes.load(connection, self.scene.workshop.ctx.vault)
            entry = NewEntry(
                key=keys.of(target),
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
        return self.scene.workshop.rows("SELECT action, object, details FROM audit_log ORDER BY id")

    def lift(self, address: str) -> None:
        with self.scene.workshop.ctx.engine.begin() as connection:
            keys = recipient_hashes.load(connection, self.scene.workshop.ctx.vault)
            suppressions.lift(
                connection,
                keys=[keys.of_address(address)],
                tenant=None,
                reason=None,
                actor="ann",
                note=None,
                now=datetime.now(UTC),
            )

    def here(self) -> dict[str, Entry]:
        with self.scene.workshop.ctx.engine.begin() as connection:
            page = suppression_pages.in_order(connection, NOW, Wanted(active=True), limit=1000)
        return {entry.address or f"@{entry.domain}": entry for entry in page.items}

    def there(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for entry in self.mailchannels.suppressions.select({}):
            found.setdefault(entry["recipient"], set()).update(entry["suppression_types"])
        return found


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    key = new_key()
    settings = {"TIDINGS_DATABASE_URL": database_url, "TIDINGS_SECRET_KEYS": key, "TIDINGS_BROKER_URL": ""}
    with scenes.opened(database_url, key=key) as scene:
        yield Desk(scene, settings)


class TestPush:
    def test_adds_what_is_missing_there_and_touches_nothing_else(self, desk: Desk) -> None:
        desk.mailchannels.suppressions.put("there@x.example")
        desk.mailchannels.suppressions.put("both@x.example")
        desk.add("both@x.example")
        desk.add("here@x.example")
        desk.add("news@x.example", types=ONLY_NEWS, reason=SuppressionReason.UNSUBSCRIBE)
        output = desk.run("push", "--source", "mc", "--yes")
        assert "2 here, and not at mailchannels" in output
        assert "1 at mailchannels, and not here" in output
        assert "2 of 2 entries were added" in output
        both = {"transactional", "non-transactional"}
        assert desk.there() == {
            "there@x.example": both,
            "both@x.example": both,
            "here@x.example": both,
            "news@x.example": {"non-transactional"},
        }
        (entry,) = desk.mailchannels.suppressions.select({"recipient": "here@x.example"})
        assert entry["notes"] == f"Tidings: hard bounce since {NOW:%Y-%m-%d}; asked us"
        assert "2 here" not in desk.run("push", "--source", "mc")
        assert desk.audited() == [("suppressions.pushed", "source:mc", {"adding": 2, "removing": 0})]

    def test_shows_and_asks_first(self, desk: Desk) -> None:
        desk.add("here@x.example")
        assert "here@x.example" in desk.run("push", "--source", "mc", "--dry-run")
        assert "here@x.example" in desk.run("push", "--source", "mc", says="n\n", code=1)
        assert desk.there() == {}
        assert desk.audited() == []

    def test_leaves_at_home_what_is_over_or_of_others_or_cannot_be_said(self, desk: Desk) -> None:
        desk.add("over@x.example", until=NOW + timedelta(microseconds=1))
        desk.add("another@x.example", tenant="somebody else")
        desk.add("@x.example")
        desk.add("own@x.example", tenant=HANDLE)
        output = desk.run("push", "--source", "mc", "--yes")
        assert "1 of ours cannot be told mailchannels" in output
        assert desk.there().keys() == {"own@x.example"}

    def test_makes_good_what_is_there_for_less_mail(self, desk: Desk) -> None:
        desk.mailchannels.suppressions.put("less@x.example", "unsubscribe_link", ("non-transactional",))
        desk.add("less@x.example")
        output = desk.run("push", "--source", "mc", "--yes")
        assert "1 on both, for different mail" in output
        assert desk.there() == {"less@x.example": {"transactional", "non-transactional"}}

    def test_says_what_the_provider_does_not_let_it_change(self, desk: Desk) -> None:
        desk.mailchannels.suppressions.put("less@x.example", "api", ("non-transactional",))
        desk.add("less@x.example")
        output = desk.run("push", "--source", "mc", "--yes")
        assert "0 of 1 entries were added" in output
        assert "cannot be changed" in output

    def test_deletes_only_when_it_is_told_to(self, desk: Desk) -> None:
        desk.mailchannels.suppressions.put("there@x.example")
        desk.add("here@x.example")
        desk.run("push", "--source", "mc", "--yes")
        assert "there@x.example" in desk.there()
        output = desk.run("push", "--source", "mc", "--delete", says="y\n")
        assert "remove 1 addresses there?" in output
        assert desk.there().keys() == {"here@x.example"}

    def test_does_not_give_back_what_the_provider_has_let_go_of(self, desk: Desk) -> None:
        desk.mailchannels.suppressions.put("gone@x.example")
        desk.run("pull", "--source", "mc", "--yes")
        desk.mailchannels.suppressions.remove("gone@x.example", "all")
        desk.run("push", "--source", "mc", "--yes")
        assert desk.there() == {}

    def test_tells_ark_only_what_holds_for_all_mail(self, desk: Desk) -> None:
        """Ark does not tell kinds of mail apart: who wants no newsletter would get no invoice either."""
        desk.add("all@x.example")
        desk.add("news@x.example", types=ONLY_NEWS, reason=SuppressionReason.UNSUBSCRIBE)
        output = desk.run("push", "--source", "ark", "--yes")
        assert "1 of ours cannot be told ark" in output
        assert [(one.address, one.reason) for one in desk.ark.suppressions.all()] == [("all@x.example", "hard fail")]


class TestPull:
    def test_adds_what_is_missing_here_in_our_words(self, desk: Desk) -> None:
        listed = desk.mailchannels.suppressions
        listed.put("Gone@X.example", "hard_bounce")
        listed.put("spam@x.example", "spam_complaint")
        listed.put("news@x.example", "unsubscribe_link", ("non-transactional",))
        listed.put("hand@x.example", "api")
        desk.add("hand@x.example")
        output = desk.run("pull", "--source", "mc", "--yes")
        assert "3 at mailchannels, and not here" in output
        assert "3 entries were added here" in output
        found = desk.here()
        assert {name: entry.reason for name, entry in found.items() if entry.origin == SuppressionOrigin.PROVIDER} == {
            "gone@x.example": SuppressionReason.HARD_BOUNCE,
            "spam@x.example": SuppressionReason.COMPLAINT,
            "news@x.example": SuppressionReason.UNSUBSCRIBE,
        }
        assert found["news@x.example"].types == [MailType.NON_TRANSACTIONAL]
        assert (found["gone@x.example"].source, found["gone@x.example"].tenant) == ("mc", HANDLE)
        assert "The lists say the same" in desk.run("pull", "--source", "mc")
        assert desk.audited() == [("suppressions.pulled", "source:mc", {"adding": 3})]

    def test_shows_and_asks_first(self, desk: Desk) -> None:
        desk.mailchannels.suppressions.put("there@x.example")
        assert "there@x.example" in desk.run("pull", "--source", "mc", "--dry-run")
        assert "there@x.example" in desk.run("pull", "--source", "mc", says="n\n", code=1)
        assert desk.here() == {}

    def test_respects_what_a_person_has_lifted(self, desk: Desk) -> None:
        desk.mailchannels.suppressions.put("forgiven@x.example")
        desk.run("pull", "--source", "mc", "--yes")
        desk.lift("forgiven@x.example")
        output = desk.run("pull", "--source", "mc", "--yes")
        assert "0 entries were added here" in output
        assert "lifted" in output
        assert desk.here() == {}

    def test_unites_what_the_provider_says_in_several_words(self, desk: Desk) -> None:
        listed = desk.mailchannels.suppressions
        listed.put("twice@x.example", "unsubscribe_link", ("non-transactional",))
        listed.put("twice@x.example", "list_unsubscribe", ("transactional",))
        desk.run("pull", "--source", "mc", "--yes")
        assert set(desk.here()["twice@x.example"].types) == ALL_MAIL
        assert "The lists say the same" in desk.run("pull", "--source", "mc")

    def test_passes_over_what_is_no_address(self, desk: Desk) -> None:
        desk.mailchannels.suppressions.put("no address")
        desk.mailchannels.suppressions.put("good@x.example")
        assert "1 entries at mailchannels are no addresses" in desk.run("pull", "--source", "mc", "--yes")
        assert desk.here().keys() == {"good@x.example"}

    def test_of_arks_list_takes_an_opt_out_for_what_it_is(self, desk: Desk) -> None:
        desk.ark.suppressions.put("gone@x.example", "hard fail")
        desk.ark.suppressions.put("news@x.example", "unsubscribe")
        desk.run("pull", "--source", "ark", "--yes")
        found = desk.here()
        assert set(found["gone@x.example"].types) == ALL_MAIL
        assert found["news@x.example"].types == [MailType.NON_TRANSACTIONAL]
        assert found["gone@x.example"].tenant == "tnt_acme"

    def test_of_thousands_is_read_whole(self, desk: Desk) -> None:
        for number in range(2300):
            desk.mailchannels.suppressions.put(f"r{number}@x.example")
        assert "2300 entries were added here" in desk.run("pull", "--source", "mc", "--yes")


def test_a_source_without_an_api_is_explained(desk: Desk) -> None:
    desk.scene.workshop.add_source("cloud", "cloudmailin", {"username": "ann", "password": "hunter2-hunter2"})
    assert "CloudMailin has no API" in desk.run("pull", "--source", "cloud", code=2)
