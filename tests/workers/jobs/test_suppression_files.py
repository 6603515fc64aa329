"""Importing and exporting the suppression list: a whole file or nothing, whatever dies meanwhile, and back again."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.errors import InvalidFieldError
from shared.jobs import files as job_files
from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.suppression import jobs as suppression_jobs
from shared.suppression import store as suppressions
from shared.suppression.csv_files import Defaults
from shared.suppression.queries import SuppressionFilters
from shared.suppression.store import NewEntry
from shared.vocabulary import ALL_MAIL, JobState, MailType, SuppressionOrigin, SuppressionReason
from tests.support.system import System
from workers.jobs import runner as working
from workers.jobs import suppression_files
from workers.jobs.progress import Interruption, InterruptionError, Progress

FUTURE = (datetime.now(UTC) + timedelta(days=300)).replace(microsecond=0)


def ask(system: System, text: str | bytes, *, skip: bool = False, replace: bool = False, **defaults: Any) -> UUID:
    content = text.encode() if isinstance(text, str) else text
    with system.ctx.engine.begin() as connection:
        return suppression_jobs.create_csv_import(
            connection,
            content,
            Defaults(**defaults),
            skip_bad_lines=skip,
            replace=replace,
            asked_by="ann",
            now=datetime.now(UTC),
        )


def found(system: System, job_id: UUID) -> Job:
    with system.ctx.engine.begin() as connection:
        job = jobs.find(connection, job_id)
    assert job is not None
    return job


def done(system: System, text: str | bytes, **wishes: Any) -> Job:
    job_id = ask(system, text, **wishes)
    working.run_due(system.ctx)
    return found(system, job_id)


def file_of(system: System, job: Job) -> str:
    with system.ctx.engine.begin() as connection:
        return b"".join(job_files.parts(connection, job.id, job_files.OUTPUT)).decode()


def listed(system: System) -> list[tuple[Any, ...]]:
    return system.rows(
        "SELECT coalesce(address, '@' || domain), reason, types, tenant, until, note, classification, origin, actor"
        " FROM suppressions ORDER BY 1, 2"
    )


def addresses(system: System) -> list[str]:
    return [row[0] for row in listed(system)]


class TestAFile:
    def test_goes_on_the_list_with_everything_it_says(self, system: System) -> None:
        job = done(
            system,
            "address,domain,types,reason,tenant,expires_at,note,classification\n"
            f"Ann <ANN@Example.NET>,,non_transactional,hard_bounce,acme,{FUTURE.isoformat()},asked to,mailbox_full\n"
            ",Example.ORG,,,,,,\n",
        )
        assert job.state is JobState.DONE, job.error
        both = ["non_transactional", "transactional"]
        assert listed(system) == [
            ("@example.org", "manual", both, "", None, None, None, "import", "ann"),
            (
                "ann@example.net", "hard_bounce", ["non_transactional"], "acme", FUTURE, "asked to", "mailbox_full",
                "import", "ann",
            ),
        ]  # fmt: skip
        assert job.report["added"] == job.report["entries"] == 2
        assert (job.done, job.total) == (3, 3)

    @pytest.mark.parametrize(
        "text",
        [
            b"\xef\xbb\xbfEmail\r\nann@example.net\r\n",
            b'"recipient";"status"\r\n"ann@example.net";"x"\r\n',
            b"created\tE-Mail\nyesterday\tann@example.net",
            b"email,reason\nann@example.net,Hard Bounce\n\n\n",
            b"address\n  ANN@EXAMPLE.net  \n",
            b'email,note\nann@example.net,"said ""no"",\r\nand no again"\r\n',
        ],
    )
    def test_may_be_as_other_systems_export_it(self, system: System, text: bytes) -> None:
        job = done(system, text)
        assert job.state is JobState.DONE, job.error
        assert addresses(system) == ["ann@example.net"]

    def test_says_which_of_its_columns_meant_nothing(self, system: System) -> None:
        assert done(system, "email,created,expire\na@x.net,1,2\n").report["ignored_columns"] == ["created", "expire"]

    def test_says_nothing_where_the_defaults_hold(self, system: System) -> None:
        types = frozenset({MailType.NON_TRANSACTIONAL})
        done(system, "email\na@x.net\n", types=types, reason=SuppressionReason.UNSUBSCRIBE, tenant="acme")
        assert [row[1:4] for row in listed(system)] == [("unsubscribe", ["non_transactional"], "acme")]

    @pytest.mark.parametrize(
        "text",
        [b"", b"name\nann\n", b"ann@example.net\n", "name\n".encode("utf-16"), b"email,recipient\n", b"\xff,\n"],
    )
    def test_without_a_header_is_refused_at_once(self, system: System, text: bytes) -> None:
        with pytest.raises(InvalidFieldError):
            ask(system, text)

    def test_that_names_one_twice_has_the_last_word(self, system: System) -> None:
        job = done(system, "email,note\na@x.net,one\nA@X.net,two\n")
        assert [row[5] for row in listed(system)] == ["two"]
        assert (job.report["good"], job.report["entries"]) == (2, 1)

    def test_makes_nothing_weaker_that_was_imported_before(self, system: System) -> None:
        done(system, "email\na@x.net\n")
        narrow = f"email,expires_at,types\na@x.net,{FUTURE.isoformat()},non_transactional\nb@x.net,,\n"
        report = done(system, narrow).report
        assert (report["entries"], report["added"], report["changed"]) == (2, 1, 0)
        assert [(len(row[2]), row[4]) for row in listed(system)] == [(2, None), (2, None)]

    def test_reports_changed_entries_apart_from_new_ones(self, system: System) -> None:
        done(system, f"email,expires_at,types\na@x.net,{FUTURE.isoformat()},non_transactional\n")
        report = done(system, "email,types\na@x.net,transactional\nb@x.net,\n").report
        assert (report["entries"], report["added"], report["changed"]) == (2, 1, 1)
        assert [(len(row[2]), row[4]) for row in listed(system)] == [(2, None), (2, None)]

    def test_takes_the_place_of_what_was_imported_before_where_that_was_asked_for(self, system: System) -> None:
        done(system, "email\na@x.net\n")
        narrow = f"email,expires_at,types\na@x.net,{FUTURE.isoformat()},non_transactional\n"
        assert done(system, narrow, replace=True).report["changed"] == 1
        assert [(row[2], row[4]) for row in listed(system)] == [(["non_transactional"], FUTURE)]

    def test_that_was_imported_before_changes_nothing(self, system: System) -> None:
        done(system, "email\na@x.net\n")
        before = system.rows("SELECT * FROM suppressions"), system.rows("SELECT count(*) FROM state_changes")
        assert done(system, "email\na@x.net\n").report["added"] == 0
        assert (
            system.rows("SELECT * FROM suppressions"),
            system.rows("SELECT count(*) FROM state_changes"),
        ) == before

    def test_skips_expired_entries(self, system: System) -> None:
        job = done(system, "email,expires_at\na@x.net,2020-01-01\nb@x.net,2999-01-01\n")
        assert addresses(system) == ["b@x.net"]
        assert job.report["over"] == 1

    def test_of_rows_is_read_the_same(self, system: System) -> None:
        rows: list[dict[str, Any]] = [
            {"address": "a@x.net", "types": ["transactional"], "note": None},
            {"domain": "x.org"},
        ]
        with system.ctx.engine.begin() as connection:
            job_id = suppression_jobs.create_row_import(
                connection, rows, Defaults(), skip_bad_lines=False, asked_by="ann", now=datetime.now(UTC)
            )
        working.run_due(system.ctx)
        assert found(system, job_id).state is JobState.DONE, found(system, job_id).error
        assert addresses(system) == ["@x.org", "a@x.net"]


BAD = """email,domain,types,reason,expires_at,note,classification
good@x.net,,,,,,
nobody,,,,,,
a@x.net,x.net,,,,,
,,,,,,
b@x.net,,letters,,,,
c@x.net,,,because,,,
d@x.net,,,,tomorrow,,
e@x.net,,,,,,very bad
f@x.net,,,,,,,,
"g@x.net,,,,,,
also.good@x.net,,,,,,
"""
BAD_LINES = [3, 4, 6, 7, 8, 9, 11]


EXPORTS: dict[str, tuple[str, list[tuple[str, str, str | None]]]] = {
    "sendgrid bounces": (
        (
            "status,reason,email,created\n"
            '5.1.1,"550 5.1.1 The email account that you tried to reach does not exist",a@x.net,1443651125\n'
            '4.2.2,"452 4.2.2 The email account is over quota",b@x.net,1443651141\n'
            ',"Mail domain mentioned in email address is unknown",c@x.net,1443651154\n'
        ),
        [
            ("a@x.net", "hard_bounce", "invalid_recipient"),
            ("b@x.net", "soft_bounce", "mailbox_full"),
            ("c@x.net", "hard_bounce", "invalid_domain"),
        ],
    ),
    "sendgrid unsubscribes": ("email,created\na@x.net,1443651125\n", [("a@x.net", "manual", None)]),
    "postmark": (
        (
            "EmailAddress,SuppressionReason,Origin,CreatedAt\n"
            "a@x.net,HardBounce,Recipient,2026-01-01T08:58:33-05:00\n"
            "b@x.net,SpamComplaint,Recipient,2026-01-01T08:58:33-05:00\n"
            "c@x.net,ManualSuppression,Recipient,2026-01-01T08:58:33-05:00\n"
            "d@x.net,ManualSuppression,Customer,2026-01-01T08:58:33-05:00\n"
        ),
        [
            ("a@x.net", "hard_bounce", None),
            ("b@x.net", "complaint", None),
            ("c@x.net", "unsubscribe", None),
            ("d@x.net", "manual", None),
        ],
    ),
    "mailgun bounces": (
        "address,code,error,created_at\n"
        'a@x.net,550,"5.1.1 No such user here",Thu\\, 01 Jan 2026 00:00:00 UTC\n'
        "b@x.net,605,Not delivering to previously bounced address,\n".replace("\\,", ""),
        [("a@x.net", "hard_bounce", "invalid_recipient"), ("b@x.net", "manual", "policy_rejection")],
    ),
    "mailgun unsubscribes": ("address,tags,created_at\na@x.net,*,x\n", [("a@x.net", "manual", None)]),
    "ses": (
        "a@x.net,BOUNCE\nb@x.net,COMPLAINT\n",
        [("a@x.net", "hard_bounce", None), ("b@x.net", "complaint", None)],
    ),
    "ses console": (
        'Email address,Suppression reason,Last updated\na@x.net,Bounce,"January 1, 2026"\n',
        [("a@x.net", "hard_bounce", None)],
    ),
    "mailchimp unsubscribed": (
        (
            "Email Address,First Name,UNSUB_TIME,UNSUB_CAMPAIGN_TITLE,UNSUB_REASON,UNSUB_REASON_OTHER,LEID\n"
            'a@x.net,Ann,"2026-01-01 10:00:00",News,NORMAL,,123\n'
        ),
        [("a@x.net", "unsubscribe", None)],
    ),
    "mailchimp cleaned": (
        "Email Address,CLEAN_TIME,CLEAN_CAMPAIGN_TITLE\na@x.net,2026-01-01 10:00:00,News\n",
        [("a@x.net", "hard_bounce", None)],
    ),
    "mandrill": (
        (
            "email,reason,detail,created_at,last_event_at,expires_at,expired,subaccount,sender\n"
            "a@x.net,hard-bounce,550 mailbox does not exist,2026-01-01 10:00:00,,,no,,\n"
            "b@x.net,spam,,2026-01-01 10:00:00,,2020-01-01 10:00:00,yes,,\n"
            "c@x.net,unsub,,2026-01-01 10:00:00,,,no,,\n"
        ),
        [("a@x.net", "hard_bounce", None), ("c@x.net", "unsubscribe", None)],
    ),
    "brevo": (
        "\ufeffCONTACT ID;EMAIL;FIRSTNAME;BLACKLISTED;ADDED_TIME\n1;a@x.net;Ann;Yes;01-01-2026\n2;b@x.net;Bob;No;\n",
        [("a@x.net", "manual", None)],
    ),
    "brevo log": (
        "Email,Reason,Sender\na@x.net,unsubscribedViaMA,s@y.net\nb@x.net,contactFlaggedAsSpam,\nc@x.net,hardBounce,\n",
        [("a@x.net", "unsubscribe", None), ("b@x.net", "complaint", None), ("c@x.net", "hard_bounce", None)],
    ),
    "mailjet": (
        '"Email";"IsUnsubscribed";"Unsubscribed At"\n"a@x.net";"true";"2026-01-01"\n"b@x.net";"false";""\n',
        [("a@x.net", "unsubscribe", None)],
    ),
    "mailjet status": (
        "email,status\na@x.net,unsub\nb@x.net,Subscribed\nc@x.net,spam\n",
        [("a@x.net", "unsubscribe", None), ("c@x.net", "complaint", None)],
    ),
    "excel": ("sep=;\n\nEmail;Type\na@x.net;Hard Bounce\n;\n", [("a@x.net", "hard_bounce", None)]),
    "old mac": ("email\ra@x.net\r", [("a@x.net", "manual", None)]),
}


class TestAFileOfAnotherProduct:
    @pytest.mark.parametrize("name", EXPORTS)
    def test_is_read_with_its_own_columns_and_words(self, system: System, name: str) -> None:
        text, expected = EXPORTS[name]
        job = done(system, text)
        assert job.state is JobState.DONE, (job.error, job.report)
        assert [(row[0], row[1], row[6]) for row in listed(system)] == expected

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
    def test_is_read_in_its_encoding(self, system: System, encoding: str) -> None:
        job = done(system, "Email;Note\r\njörg@x.net;für immer\r\n".encode(encoding))
        assert job.state is JobState.DONE, job.error
        assert [(row[0], row[5]) for row in listed(system)] == [("jörg@x.net", "für immer")]

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("01/31/2999", "2999-01-31"),
            ("1/31/2999 11:30 PM", "2999-01-31T23:30:00"),
            ("31.01.2999 23:30", "2999-01-31T23:30:00"),
            ("2999-01-31 23:30:00", "2999-01-31T23:30:00"),
            ("4085337600", "2099-06-17"),
            ("never", None),
        ],
    )
    def test_has_dates_as_it_writes_them(self, system: System, written: str, expected: str | None) -> None:
        job = done(system, f"email,expires_at\na@x.net,{written}\n")
        assert job.state is JobState.DONE, job.report
        until = datetime.fromisoformat(expected).replace(tzinfo=UTC) if expected else None
        assert [row[4] for row in listed(system)] == [until]

    def test_keeps_what_it_says_of_the_failure_as_a_note(self, system: System) -> None:
        done(system, EXPORTS["sendgrid bounces"][0])
        assert listed(system)[1][5] == "452 4.2.2 The email account is over quota"

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("email\n", "no lines"),
            ("email,note\n,\n,\n", "2 without values"),
            ("email,expires_at\na@x.net,2020-01-01\n", "1 expired"),
            ("email,status\na@x.net,subscribed\nb@x.net,Active\n", "2 not suppressed, as the line says"),
            ("email\nnobody\n", "1 that cannot be used"),
        ],
    )
    def test_that_adds_nothing_is_not_done(self, system: System, text: str, why: str) -> None:
        job = done(system, text, skip=True)
        assert job.state is JobState.FAILED
        assert why in (job.error or "")


class TestLinesThatCannotBeUsed:
    def test_keep_the_whole_file_from_being_imported_and_are_all_reported_with_the_problem(
        self, system: System
    ) -> None:
        job = done(system, BAD)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.startswith("7 of 11 lines cannot be used, so nothing was imported.")
        assert listed(system) == []
        assert [entry["line"] for entry in job.report["bad_lines"]] == BAD_LINES
        assert all(entry["problem"] and "text" in entry for entry in job.report["bad_lines"])
        rows = list(csv.DictReader(io.StringIO(file_of(system, job))))
        assert [int(row["line"]) for row in rows] == BAD_LINES
        assert rows[0] == {
            "line": "3",
            "problem": "'nobody' has no @; a domain is written @example.com",
            "text": "nobody,,,,,,",
        }

    def test_are_no_formulas_where_a_spreadsheet_opens_the_file(self, system: System) -> None:
        job = done(system, "email\n=1+1\n")
        assert "'=1+1" in file_of(system, job)

    def test_are_passed_over_where_that_was_asked_for(self, system: System) -> None:
        job = done(system, BAD, skip=True)
        assert job.state is JobState.DONE
        assert addresses(system) == ["also.good@x.net", "f@x.net", "good@x.net"]
        assert (job.report["bad"], job.report["added"]) == (7, 3)
        assert job.report["skipped"] == [{"reason": "without values", "count": 1, "lines": [5]}]
        assert len(file_of(system, job).splitlines()) == 8

    def test_may_hold_what_a_database_cannot_keep_as_text(self, system: System) -> None:
        job = done(system, b"email,x\0y\nann@x.net,1\nbad\0@x.net,2\n", skip=True)
        assert job.state is JobState.DONE, job.error
        assert addresses(system) == ["ann@x.net"]
        assert job.report["ignored_columns"] == ["x\ufffdy"]
        assert job.report["bad_lines"] == [{"line": 3, "problem": "it contains NUL", "text": "bad\ufffd@x.net,2"}]

    def test_are_reported_up_to_a_limit_and_completely_in_the_file(self, system: System) -> None:
        job = done(system, "email\n" + "nobody\n" * 5000)
        assert len(job.report["bad_lines"]) == 20
        assert job.report["bad"] == 5000
        assert len(file_of(system, job).splitlines()) == 5001


def long_file(lines: int) -> str:
    return "email,note\n" + "".join(f'user{number}@x.net,"line\n{number}"\n' for number in range(lines))


class TestALongFile:
    def test_is_read_in_turns_however_they_fall(self, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(suppression_jobs, "PART_BYTES", 100)
        monkeypatch.setattr(suppression_files, "RECORDS_PER_BATCH", 7)
        monkeypatch.setattr(suppression_files, "ENTRIES_PER_BATCH", 10)
        job_id = ask(system, long_file(60))
        turns = 0
        while not found(system, job_id).state.is_over:
            working.run_due(system.ctx, turn_seconds=0.0001)
            turns += 1
            if not found(system, job_id).state.is_over:
                assert listed(system) == []
        assert turns > 8
        assert len(addresses(system)) == 60
        assert {row[5] for row in listed(system)} == {f"line\n{number}" for number in range(60)}

    def test_whose_worker_dies_at_any_moment_is_imported_once_and_whole(
        self, system: System, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(suppression_files, "RECORDS_PER_BATCH", 10)
        job_id = ask(system, long_file(30))
        deaths = iter(range(1, 8))
        original = Progress.record

        def note(progress: Progress, *values: Any) -> None:
            original(progress, *values)
            if next(deaths, None):
                raise ConnectionError("the worker dies here, before its transaction is committed")

        monkeypatch.setattr(Progress, "record", note)
        while not found(system, job_id).state.is_over:
            system.execute("UPDATE jobs SET available_at = now() - interval '1 s', attempts = 0")
            working.run_due(system.ctx)
            assert len(addresses(system)) in (0, 30)
        assert found(system, job_id).state is JobState.DONE
        assert len(addresses(system)) == 30
        assert system.rows("SELECT count(*) FROM suppression_history") == [(30,)]
        assert system.rows("SELECT count(*) FROM staged_suppressions") == [(0,)]

    def test_that_is_cancelled_leaves_nothing(self, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(suppression_files, "RECORDS_PER_BATCH", 10)
        job_id = ask(system, long_file(30))
        working.run_due(system.ctx, turn_seconds=0.0001)
        assert system.rows("SELECT count(*) FROM staged_suppressions") != [(0,)]
        with system.ctx.engine.begin() as connection:
            jobs.cancel(connection, job_id)
        working.run_due(system.ctx)
        assert listed(system) == []
        for table in ("staged_suppressions", "job_files"):
            assert system.rows(f"SELECT count(*) FROM {table}") == [(0,)]

    def test_that_was_written_is_not_written_again(self, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
        """The worker dies after it wrote the list and before it finished the job."""
        job_id = ask(system, "email\na@x.net\n")

        def die(*_values: Any, **_more: Any) -> None:
            raise InterruptionError(Interruption.CANCELLED)

        with monkeypatch.context() as patch:
            patch.setattr(jobs, "finish", die)
            with pytest.raises(InterruptionError):
                working.run_due(system.ctx)
        with system.ctx.engine.begin() as connection:
            lifted = [system.ctx.hasher.hash_address("a@x.net")]
            now = datetime.now(UTC)
            suppressions.lift(connection, keys=lifted, tenant=None, reason=None, actor="p", note=None, now=now)
        system.execute("UPDATE jobs SET available_at = now() - interval '1 s'")
        working.run_due(system.ctx)
        assert found(system, job_id).state is JobState.DONE
        assert found(system, job_id).report["added"] == 1
        assert listed(system) == []


def exported(system: System, **wanted: Any) -> str:
    with system.ctx.engine.begin() as connection:
        job_id = suppression_jobs.create_export(
            connection, SuppressionFilters(**wanted), asked_by="ann", now=datetime.now(UTC)
        )
    while not found(system, job_id).state.is_over:
        working.run_due(system.ctx, turn_seconds=0.0001)
    job = found(system, job_id)
    assert job.state is JobState.DONE, job.error
    return file_of(system, job)


FULL = (
    "address,domain,types,reason,tenant,expires_at,note,classification\r\n"
    f'a@x.net,,non_transactional|transactional,hard_bounce,,,"said ""no"", and\r\nmore",invalid_recipient\r\n'
    f"b@x.net,,non_transactional,unsubscribe,acme,{FUTURE.isoformat().replace('+00:00', 'Z')},,\r\n"
    "b@x.net,,transactional,manual,,,'=1+1,\r\n"
    "'-c@x.net,,non_transactional|transactional,manual,'@acme,,''=it's not,\r\n"
    "d@x.net,,non_transactional|transactional,manual,,,'tis - it=,\r\n"
    ",x.org,non_transactional|transactional,manual,,,für immer,\r\n"
)


class TestAnExport:
    def test_imported_again_gives_the_same_list(self, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(suppression_files, "ENTRIES_PER_BATCH", 2)
        done(system, FULL)
        before = listed(system)
        text = exported(system)
        assert sorted(csv.reader(io.StringIO(text))) == sorted(csv.reader(io.StringIO(FULL)))
        system.execute("DELETE FROM suppressions")
        assert done(system, text).report["added"] == 6
        assert ("-c@x.net", "@acme", "'=it's not") in [(row[0], row[3], row[5]) for row in before]
        assert listed(system) == before

    def test_of_what_only_events_name_can_be_imported_too(self, system: System) -> None:
        now = datetime.now(UTC)
        rare = ('"john doe"@x.net', "joe@[192.0.2.1]", "=1+1@x.net", "'@x.net")
        new = [
            NewEntry(
                key=system.ctx.hasher.hash_address(address), address=address, domain=None,
                reason=SuppressionReason.HARD_BOUNCE,
                types=ALL_MAIL, origin=SuppressionOrigin.EVENT, since=now,
            )
            for address in rare
        ]  # fmt: skip
        with system.ctx.engine.begin() as connection:
            suppressions.add(connection, new, now)
        before = system.rows("SELECT key, address FROM suppressions ORDER BY key")
        text = exported(system)
        assert "\n'=1+1@x.net" in text
        system.execute("DELETE FROM suppressions")
        job = done(system, text)
        assert job.state is JobState.DONE, job.report
        assert system.rows("SELECT key, address FROM suppressions ORDER BY key") == before

    def test_has_what_was_asked_for(self, system: System) -> None:
        done(system, FULL)
        assert exported(system, reason="unsubscribe").count("\r\n") == 2
        assert ",x.org," in exported(system, domain="x.org")
        assert exported(system, tenant="nobody").count("\r\n") == 1

    def test_has_what_is_over_only_where_that_was_asked_for(self, system: System) -> None:
        done(system, "email\na@x.net\nb@x.net\n")
        system.execute("UPDATE suppressions SET until = now() - interval '1 day' WHERE address = 'a@x.net'")
        assert "a@x.net" not in exported(system, active=True)
        assert "a@x.net" in exported(system)

    def test_names_what_was_erased_so_that_it_stays_suppressed_when_imported_again(self, system: System) -> None:
        done(system, "email\na@x.net\n")
        system.execute("UPDATE suppressions SET address = NULL")
        key = system.rows("SELECT key FROM suppressions")
        text = exported(system)
        assert "@erased.invalid" in text
        system.execute("DELETE FROM suppressions")
        done(system, text)
        assert system.rows("SELECT key, address, domain FROM suppressions") == [(key[0][0], None, None)]
