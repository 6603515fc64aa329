"""The rules as a document: a wrong one is refused with line, field and what was expected."""

import contextlib
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.alerts.policy import AlertRule
from shared.alerts.rules import CLASSES, EventRule, Rate, RateRule, usual_rate
from shared.rules import document
from shared.rules.document import MAX_BYTES, RulesError
from shared.rules.model import Rules
from shared.rules.schemas import ALERT_FIELDS, SuppressionSchema
from shared.suppression.policy import Consequence, SuppressionPolicy, Tenants
from shared.vocabulary import AlertKind, Classification, EventType, MailType, Per

RATE = "alerts:\n  - {name: a, kind: rate, rate: bounce, %s}\n"

WRONG: dict[str, tuple[str, list[str]]] = {
    "an empty file": (
        "",
        ["1:1: expected suppression and alerts, or one of them, found nothing"],
    ),
    "comments alone": (
        "# nothing\n",
        ["1:1: expected suppression and alerts, or one of them, found nothing"],
    ),
    "an empty mapping": (
        "{}\n",
        ["1:1: expected suppression and alerts, or one of them, found nothing"],
    ),
    "a list at the top": (
        "- a\n",
        ["1:1: expected a mapping, found a list of 1 item"],
    ),
    "a word at the top": (
        "rules\n",
        ['1:1: expected a mapping, found "rules"'],
    ),
    "an unknown section": (
        "alert: []\n",
        ["1:1: alert: unknown key; expected one of suppression, alerts. Did you mean 'alerts'?"],
    ),
    "a section without a value": (
        "suppression:\n",
        ["1:13: suppression: expected a mapping, found nothing"],
    ),
    "alerts that are no list": (
        "alerts: {}\n",
        ["1:9: alerts: expected a list, found a mapping"],
    ),
    "a rule that is no mapping": (
        "alerts: [a]\n",
        ['1:10: alerts[0]: expected a mapping, found "a"'],
    ),
    "a text instead of a number": (
        "alerts:\n  - name: a\n    kind: rate\n    rate: bounce\n    window_minutes: soon\n",
        ['5:21: alerts[0].window_minutes: expected a whole number from 1 to 10080, found "soon"'],
    ),
    "a number beyond its bounds": (
        RATE % "window_minutes: 10081",
        ["2:57: alerts[0].window_minutes: expected a whole number from 1 to 10080, found 10081"],
    ),
    "a fraction instead of a whole number": (
        RATE % "window_minutes: 1.5",
        ["2:57: alerts[0].window_minutes: expected a whole number from 1 to 10080, found 1.5"],
    ),
    "true instead of a number": (
        RATE % "minimum_volume: true",
        ["2:57: alerts[0].minimum_volume: expected a whole number from 1 to 1000000000, found true"],
    ),
    "a quoted number": (
        RATE % "minimum_volume: '5'",
        ['2:57: alerts[0].minimum_volume: expected a whole number from 1 to 1000000000, found "5"'],
    ),
    "a share of more than all": (
        RATE % "warning: 101 %",
        ['2:50: alerts[0].warning: expected a share such as 5 %, above 0 % and up to 100 %, found "101 %"'],
    ),
    "a share of nothing": (
        RATE % "warning: 0",
        ["2:50: alerts[0].warning: expected a share such as 5 %, above 0 % and up to 100 %, found 0"],
    ),
    "a number that is none": (
        RATE % "warning: .nan",
        ['2:50: alerts[0].warning: expected a share such as 5 %, above 0 % and up to 100 %, found ".nan"'],
    ),
    "critical that is no more than the warning": (
        RATE % "warning: 10 %, critical: 10 %",
        ['2:66: alerts[0].critical: expected more than the warning of 10, found "10 %"'],
    ),
    "a word of another vocabulary": (
        RATE % "per: sender",
        [
            (
                "2:46: alerts[0].per: expected one of all, source, tenant, sender_domain, recipient_domain,"
                " found \"sender\". Did you mean 'sender_domain'?"
            )
        ],
    ),
    "yes instead of true": (
        RATE % "enabled: yes",
        ['2:50: alerts[0].enabled: expected true or false, found "yes"'],
    ),
    "a rule without a kind": (
        "alerts:\n  - name: a\n",
        [
            (
                "2:5: alerts[0].kind: expected one of rate, event, silence, announced,"
                " mass_failures, verification_failures, pending_age, unverified_age, dead_receipts, set_aside,"
                " reconciled,"
                " reconciliation_failures, given_up, dead_deliveries,"
                " subscription_disabled, rules_refused, broker_unusable, found no"
                " such key"
            )
        ],
    ),
    "an unknown kind": (
        "alerts:\n  - name: a\n    kind: silense\n",
        [
            (
                "3:11: alerts[0].kind: expected one of rate, event, silence, announced,"
                " mass_failures, verification_failures, pending_age, unverified_age, dead_receipts, set_aside,"
                " reconciled,"
                " reconciliation_failures, given_up, dead_deliveries,"
                " subscription_disabled, rules_refused, broker_unusable, found"
                " \"silense\". Did you mean 'silence'?"
            )
        ],
    ),
    "a rule without a name": (
        "alerts:\n  - kind: silence\n",
        [
            (
                "2:5: alerts[0].name: expected a name of up to 64 letters, digits, dots, dashes and underscores,"
                " found no such key"
            )
        ],
    ),
    "a rate without saying which": (
        "alerts:\n  - {name: a, kind: rate}\n",
        ["2:5: alerts[0].rate: expected one of bounce, complaint, deferral, failure, found no such key"],
    ),
    "an event without types": (
        "alerts:\n  - {name: a, kind: event}\n",
        ["2:5: alerts[0].types: expected a list, found no such key"],
    ),
    "no types at all": (
        "alerts:\n  - {name: a, kind: event, types: []}\n",
        ["2:35: alerts[0].types: expected at least one item, found an empty list"],
    ),
    "a type twice": (
        "alerts:\n  - {name: a, kind: event, types: [held, held]}\n",
        ['2:42: alerts[0].types[1]: expected each item only once, found "held"'],
    ),
    "a key of another kind": (
        "alerts:\n  - {name: a, kind: pending_age, window_minutes: 5}\n",
        [
            (
                "2:34: alerts[0].window_minutes: unknown key; expected one of name, kind, warning, critical, enabled,"
                " resolve_after_minutes, cool_down_minutes. Did you mean 'cool_down_minutes'?"
            )
        ],
    ),
    "a name that cannot be part of a URL": (
        "alerts:\n  - {name: 'a b', kind: silence}\n",
        [
            (
                "2:12: alerts[0].name: expected a name of up to 64 letters, digits, dots, dashes and"
                ' underscores, found "a b"'
            )
        ],
    ),
    "a name twice": (
        "alerts:\n  - {name: a, kind: silence}\n  - {name: a, kind: pending_age}\n",
        ['3:12: alerts[1].name: expected a name that alerts[0] does not have, found "a"'],
    ),
    "a key twice": (
        "suppression:\n  complaint:\n    days: 5\n    days: 6\n",
        ["4:5: suppression.complaint.days: expected each key once, found this one again; line 3 has it"],
    ),
    "days in words": (
        "suppression:\n  complaint:\n    days: forever\n",
        [
            (
                '3:11: suppression.complaint.days: expected a whole number of days from 1 to 36500, or "for'
                ' good", found "forever"'
            )
        ],
    ),
    "no days at all": (
        "suppression:\n  soft_bounce:\n    days: []\n",
        ["3:11: suppression.soft_bounce.days: expected at least one item, found an empty list"],
    ),
    "days of a soft bounce that are no list": (
        "suppression:\n  soft_bounce:\n    days: 30\n",
        ["3:11: suppression.soft_bounce.days: expected a list, found 30"],
    ),
    "what is the sender's problem": (
        "suppression:\n  hard_bounce:\n    classifications: [spam_block]\n",
        [
            (
                "3:23: suppression.hard_bounce.classifications[0]: expected one of invalid_recipient,"
                " inactive_mailbox, mailbox_full, invalid_domain, dns_failure, routing_error,"
                ' connection_error, protocol_error, transient_failure, unclassified, found "spam_block"'
            )
        ],
    ),
    "several errors at once, in the order of the lines": (
        (
            "suppression:\n  complaint: {tenants: mine}\n"
            "alerts:\n  - {name: a, kind: silence, warning: 1, factor: 2}\n  - 5\n"
        ),
        [
            '2:24: suppression.complaint.tenants: expected one of own, all, found "mine"',
            "4:39: alerts[0].warning: expected a whole number from 5 to 10080, found 1",
            (
                "4:42: alerts[0].factor: unknown key; expected one of name, kind, sources, minimum_events, warning,"
                " critical, enabled, resolve_after_minutes, cool_down_minutes"
            ),
            "5:5: alerts[1]: expected a mapping, found 5",
        ],
    ),
    "an anchor and its alias": (
        "suppression:\n  complaint: &c {days: 5}\n  unsubscribe: *c\n",
        [
            "2:14: suppression.complaint: expected a value, found the anchor &c: anchors and aliases are not supported",
            "3:16: suppression.unsubscribe: expected a value, found the alias *c: write out what it stands for",
        ],
    ),
    "a merge key": (
        "suppression:\n  complaint: {<<: {days: 5}}\n",
        ["2:15: suppression.complaint.<<: unknown key; expected one of enabled, types, tenants, days"],
    ),
    "a tag": (
        "suppression:\n  complaint: {days: !!int '5'}\n",
        [
            (
                "2:21: suppression.complaint.days: expected a value, found the tag tag:yaml.org,2002:int:"
                " tags are not supported"
            )
        ],
    ),
    "a tag that makes objects": (
        "suppression: !!python/object/apply:os.system ['true']\n",
        [
            (
                "1:14: suppression: expected a value, found the tag"
                " tag:yaml.org,2002:python/object/apply:os.system: tags are not supported"
            )
        ],
    ),
    "a second document": (
        "alerts: []\n---\nalerts: []\n",
        ["2:1: expected one document, found another"],
    ),
    "a key that is a list": (
        "? [a]\n: b\n",
        ["1:3: expected a name, found something else as a key"],
    ),
    "nesting without end": (
        "suppression: " + "[" * 5000,
        ["1:24: suppression[0][0][0][0][0][0][0][0][0][0]: expected at most 10 levels, found more"],
    ),
    "more items than are checked": (
        "alerts:\n" + "- {}\n" * 50_000,
        ["1002:3: alerts: expected at most 1000 items, found more"],
    ),
    "more keys than are checked": (
        "alerts: []\n" + "".join(f"k{number}: 1\n" for number in range(20_000)),
        ["1001:1: expected at most 1000 items, found more"],
    ),
    "a bracket that stays open": (
        "alerts: [\n",
        ["2:1: expected YAML, but while parsing a flow node: expected the node content, but found '<stream end>'"],
    ),
    "a key twice, before what is not YAML": (
        "suppression:\n  complaint: {days: 5, days: 6}\nalerts: [\n",
        [
            "2:24: suppression.complaint.days: expected each key once, found this one again; line 2 has it",
            "4:1: expected YAML, but while parsing a flow node: expected the node content, but found '<stream end>'",
        ],
    ),
    "a section twice": (
        "suppression:\n  complaint: {days: 5}\nsuppression:\n  complaint: {days: 6}\n",
        ["3:1: suppression: expected each key once, found this one again; line 1 has it"],
    ),
    "an alias as a key": (
        "suppression: {*c : {days: 5}}\n",
        [
            "1:15: suppression: expected a name, found something else as a key",
            "1:15: suppression: expected a value, found the alias *c: write out what it stands for",
        ],
    ),
    "a key with an anchor": (
        "suppression: {&c complaints: {days: 5}}\n",
        [
            "1:15: suppression: expected a value, found the anchor &c: anchors and aliases are not supported",
            (
                "1:15: suppression.complaints: unknown key; expected one of hard_bounce, complaint, unsubscribe,"
                " soft_bounce. Did you mean 'complaint'?"
            ),
        ],
    ),
    "a name with an anchor": (
        "alerts:\n  - {name: &a b, kind: silence}\n",
        ["2:12: alerts[0].name: expected a value, found the anchor &a: anchors and aliases are not supported"],
    ),
    "a tab": (
        "alerts:\n\t- a\n",
        [
            (
                "2:1: expected YAML, but while scanning for the next token: found character '\\t' that cannot"
                " start any token"
            )
        ],
    ),
    "wrong indentation": (
        "suppression:\n  complaint:\n    days: 5\n   types: []\n",
        [
            (
                "4:4: expected YAML, but while parsing a block mapping: expected <block end>, but found"
                " '<block mapping start>'"
            )
        ],
    ),
    "a control character": (
        "alerts: []\n# \x07\n",
        ["2:3: expected text, found the character U+0007"],
    ),
    "an escape for a character that does not exist": (
        'alerts: ["\\UFFFFFFFF"]\n',
        ["expected YAML, but there is an escape for a character that does not exist"],
    ),
    "more rules than the limit": (
        "alerts: [" + "a, " * 201 + "]\n",
        ["1:9: alerts: expected at most 200 items, found a list of 201 items"],
    ),
    "a name that ends with a line feed": (
        'alerts:\n  - {name: "a\\n", kind: silence}\n',
        [
            (
                "2:12: alerts[0].name: expected a name of up to 64 letters, digits, dots, dashes and underscores,"
                ' found "a\\n"'
            )
        ],
    ),
    "an unknown key whose value is an alias, too": (
        "suppression:\n  complaint: {day: *x, tenants: *y}\n",
        [
            (
                "2:15: suppression.complaint.day: unknown key; expected one of enabled, types, tenants, days."
                " Did you mean 'days'?"
            ),
            "2:20: suppression.complaint.day: expected a value, found the alias *x: write out what it stands for",
            "2:33: suppression.complaint.tenants: expected a value, found the alias *y: write out what it stands for",
        ],
    ),
    "an announcement that is looked for too late": (
        "alerts:\n  - {name: a, kind: announced, after_minutes: 120, within_hours: 2}\n",
        ["2:47: alerts[0].after_minutes: expected less than the 120 minutes of within_hours, found 120"],
    ),
}


@pytest.mark.parametrize(("text", "lines"), WRONG.values(), ids=WRONG)
def test_every_error_has_its_position_and_what_was_expected(text: str, lines: list[str]) -> None:
    with pytest.raises(RulesError) as raised:
        document.load(text, "rules.yaml")
    assert raised.value.lines == [f"rules.yaml:{line if line[0].isdigit() else f' {line}'}" for line in lines]


class TestAFile:
    def test_that_is_missing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RulesError, match=r"rules.yaml: expected a file, but No such file"):
            document.load_file(tmp_path / "rules.yaml")

    def test_that_is_a_directory_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RulesError, match="expected a file, but Is a directory"):
            document.load_file(tmp_path)

    def test_that_is_too_large_is_refused_unread(self, tmp_path: Path) -> None:
        path = tmp_path / "rules.yaml"
        path.write_text("#" * (MAX_BYTES + 1))
        with pytest.raises(RulesError, match="expected at most 256 KiB, found more"):
            document.load_file(path)

    def test_that_is_not_utf_8_is_refused_at_the_byte(self, tmp_path: Path) -> None:
        path = tmp_path / "rules.yaml"
        path.write_bytes(b"alerts: []\n# caf\xe9\n")
        with pytest.raises(RulesError, match=r"rules.yaml:2:6: expected UTF-8, found the byte 0xE9"):
            document.load_file(path)


class TestTheDefaults:
    def test_of_suppression_are_those_of_the_policy(self) -> None:
        assert document.load_default().suppression == SuppressionPolicy()

    def test_of_each_rule_are_those_of_its_kind(self) -> None:
        for rule in document.load_default().alerts:
            definition = document.dump_alert_rule(rule)
            said = {"name", "kind", "rate", "types", "per"}
            if isinstance(rule, EventRule):
                said |= {"warning", "critical"}
            plain = {name: value for name, value in definition.items() if name in said}
            assert document.load_alert_rule(plain) == rule, rule.name

    def test_watch_something_of_every_kind(self) -> None:
        assert {rule.kind for rule in document.load_default().alerts} == set(AlertKind)
        assert {rule.rate for rule in document.load_default().alerts if isinstance(rule, RateRule)} == set(Rate)


class TestWhatAFileDoesNotSay:
    def test_is_as_by_default(self) -> None:
        found = document.load("suppression:\n  complaint:\n    days: 90\n", "rules.yaml")
        assert found.suppression == SuppressionPolicy(complaint=Consequence(days=90))
        assert found.alerts == document.load_default().alerts

    def test_of_the_alerts_is_not_there(self) -> None:
        found = document.load("alerts:\n  - {name: late, kind: pending_age, critical: 60}\n", "rules.yaml")
        (rule,) = found.alerts
        assert (rule.name, rule.warning, rule.critical) == ("late", None, 60)
        assert found.suppression == SuppressionPolicy()
        assert document.load("alerts: []\n", "rules.yaml").alerts == ()

    def test_of_one_threshold_is_not_the_default_of_the_other(self) -> None:
        (rule,) = document.load(RATE % "warning: 20 %", "rules.yaml").alerts
        assert (rule.warning, rule.critical) == (20, None)


def test_shares_may_be_written_with_and_without_their_sign() -> None:
    for text in ("5 %", "5%", "5", "5.0"):
        (rule,) = document.load(RATE % f"warning: {text}", "rules.yaml").alerts
        assert rule.warning == 5


def test_every_key_can_be_set() -> None:
    found = document.load(
        """
        suppression:
          hard_bounce:
            enabled: false
            classifications: [invalid_recipient]
            types: [transactional]
            days: 10
            tenants: all
          soft_bounce: {messages: 3, within_days: 7, days: [1, for good], classifications: [mailbox_full]}
        alerts:
          - {name: b, kind: rate, rate: bounce, per: recipient_domain, sources: [main, shop], window_minutes: 5,
             minimum_volume: 10, minimum_events: 2, warning: 1.5 %, critical: 2 %, enabled: false,
             resolve_after_minutes: 0, cool_down_minutes: 0}
        """,
        "rules.yaml",
    )
    hard, soft = found.suppression.hard_bounce, found.suppression.soft_bounce
    assert (hard.enabled, hard.days, hard.tenants) == (False, 10, Tenants.ALL)
    assert hard.classifications == {Classification.INVALID_RECIPIENT}
    assert hard.types == {MailType.TRANSACTIONAL}
    assert (soft.messages, soft.within_days, soft.days) == (3, 7, (1, None))
    assert found.alerts == (
        RateRule(
            name="b",
            rate=Rate.BOUNCE,
            per=Per.RECIPIENT_DOMAIN,
            sources=frozenset({"main", "shop"}),
            window_minutes=5,
            minimum_volume=10,
            minimum_events=2,
            warning=1.5,
            critical=2,
            enabled=False,
            resolve_after_minutes=0,
            cool_down_minutes=0,
        ),
    )


class TestARuleOfTheApi:
    def test_is_read_as_one_of_the_file(self) -> None:
        definition = {"name": "b", "kind": "rate", "rate": "bounce", "warning": "7 %", "per": "tenant"}
        assert document.load_alert_rule(definition) == RateRule(
            **{
                **{entry.name: getattr(usual_rate("b", Rate.BOUNCE), entry.name) for entry in fields(RateRule)},
                "warning": 7,
                "critical": None,
                "per": Per.TENANT,
            }
        )

    @pytest.mark.parametrize(
        ("definition", "field", "message"),
        [
            ({"name": "b", "kind": "rate", "rate": "bounce", "window_minutes": "soon"}, "window_minutes", '"soon"'),
            ({"name": "b", "kind": "rate", "rate": "bounce", "window": 5}, "window", "Did you mean 'window_minutes'"),
            ({"name": "b", "kind": "event", "types": ["helt"]}, "types[0]", "Did you mean 'held'"),
            ({"name": "b", "kind": "event", "types": {"a": 1}}, "types", "expected a list, found a mapping"),
            ({"name": "b"}, "kind", "found no such key"),
            ({"kind": "silence"}, "name", "found no such key"),
            ({"name": "b", "kind": "silence", "warning": True}, "warning", "found true"),
            ({"name": "b", "kind": "silence", "warning": 10, "critical": 5}, "critical", "more than the warning"),
            ([], "", "expected a mapping, found an empty list"),
            (None, "", "expected a mapping, found nothing"),
        ],
    )
    def test_that_is_wrong_is_refused_by_its_field(self, definition: Any, field: str, message: str) -> None:
        with pytest.raises(RulesError) as raised:
            document.load_alert_rule(definition)
        (problem,) = raised.value.problems
        assert problem.field == field
        assert message in problem.message


def _values(kind: AlertKind, name: str) -> st.SearchStrategy[Any]:
    """Values that this field can have."""
    known: dict[str, st.SearchStrategy[Any]] = {
        "enabled": st.booleans(),
        "per": st.sampled_from([str(per) for per in Per]),
        "rate": st.sampled_from([str(rate) for rate in Rate]),
        "types": st.lists(st.sampled_from([str(kind) for kind in EventType]), min_size=1, unique=True),
        "sources": st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True), unique=True, max_size=3),
        "warning": st.integers(10, 49) if kind is not AlertKind.RATE else st.floats(0.5, 40),
        "critical": st.integers(50, 100),
        "factor": st.floats(1, 100),
        "within_hours": st.integers(20, 100),
    }
    return known.get(name, st.integers(10, 1000))


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(AlertKind))
    required = {AlertKind.RATE: ["rate"], AlertKind.EVENT: ["types"]}.get(kind, [])
    optional = [*ALERT_FIELDS[kind], "enabled", "resolve_after_minutes", "cool_down_minutes"]
    chosen = draw(st.lists(st.sampled_from(optional), unique=True))
    return {
        "name": draw(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)),
        "kind": str(kind),
        **{name: draw(_values(kind, name)) for name in dict.fromkeys([*required, *chosen])},
    }


@given(st.lists(definitions(), max_size=5, unique_by=lambda found: found["name"]))
def test_dumped_rules_load_to_the_same_rules(found: list[dict[str, Any]]) -> None:
    made: tuple[AlertRule, ...] = tuple(document.load_alert_rule(definition) for definition in found)
    assert tuple(document.load_alert_rule(document.dump_alert_rule(rule)) for rule in made) == made
    whole = Rules(alerts=made)
    assert document.load(document.dump(whole), "rules.yaml") == whole


def test_every_field_of_every_kind_can_be_set() -> None:
    for kind, known in ALERT_FIELDS.items():
        of_all = {"name", "enabled", "resolve_after_minutes", "cool_down_minutes"}
        assert {entry.name for entry in fields(CLASSES[kind])} == set(known) | of_all


def test_every_key_and_kind_is_described() -> None:
    page = (Path(__file__).parents[3] / "docs" / "rules.md").read_text()
    of_alerts = {name for known in ALERT_FIELDS.values() for name in known} | {str(kind) for kind in AlertKind}
    sections: Any = SuppressionSchema().fields
    of_policy = {name for section in sections.values() for name in section.schema.fields} | set(sections)
    words = {
        *of_alerts,
        *of_policy,
        "name",
        "kind",
        "enabled",
        "resolve_after_minutes",
        "cool_down_minutes",
        *Rate,
        *Per,
    }
    assert [word for word in sorted(words) if f"`{word}`" not in page] == []


def test_a_window_is_never_longer_than_counts_are_kept() -> None:
    with pytest.raises(RulesError):
        document.load(RATE % f"window_minutes: {int(timedelta(days=8).total_seconds() // 60)}", "rules.yaml")


@given(st.text(max_size=200))
def test_any_text_is_loaded_or_refused(text: str) -> None:
    with contextlib.suppress(RulesError):
        document.load(text, "rules.yaml")
