"""The rules in force in one process: checked for changes while it runs, and kept while a newer file is wrong."""

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from sqlalchemy import Connection

from shared.alerts import store as alerts
from shared.alerts.policy import AlertRule
from shared.postgres import engine
from shared.rules import document, store
from shared.rules.document import RulesError
from shared.rules.model import Rules

_INTERVAL_SECONDS = 2.0
_SETTLED_SECONDS = 1.0
"""An editor may still be writing a file that was changed more recently."""

log = structlog.get_logger()


class RulesReloader:
    """The rules of a file, or the defaults if `path` is None, with the API's rules.

    A file that is wrong is refused and logged, once per change. The rules before it stay in force; a process that has
    just started uses the file that any process accepted last.
    """

    def __init__(self, path: Path | None, *, interval_seconds: float = _INTERVAL_SECONDS) -> None:
        self._path = path
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._checked_at = 0.0
        self._file_version: tuple[int, ...] | None = None
        self._file_text: str | None = None
        self._file_rules: Rules | None = None
        self._api_rules: dict[str, tuple[object, AlertRule | None]] = {}
        self._rules: Rules | None = None
        self._errors: Sequence[str] = ()

    @property
    def errors(self) -> Sequence[str]:
        """What is wrong with the file, a line each; empty while the file is in force."""
        return self._errors

    def rules(self, connection: Connection, *, max_age_seconds: float = math.inf) -> Rules:
        """Return the rules in force, checked for changes within this time, and within the interval of this process.

        Raises RulesError if the file is wrong and no rules were in force before.
        """
        with self._lock:
            now = time.monotonic()
            if self._rules is None or now - self._checked_at >= min(max_age_seconds, self._interval_seconds):
                self._reload_file(connection)
                self._rules = self._merge_api_rules(connection)
                self._checked_at = now
            return self._rules

    def record(self, connection: Connection) -> None:
        """Store the file in force for processes that start while a newer one is wrong."""
        if self._path is None:
            store.delete_accepted(connection)
        elif self._file_text is not None and not self._errors:
            store.store_accepted(connection, str(self._path), self._file_text)

    def _reload_file(self, connection: Connection) -> None:
        if self._path is None:
            self._file_rules = self._file_rules or document.load_default()
            return
        try:
            found = self._path.stat()
            version, age = (found.st_mtime_ns, found.st_size, found.st_ino), time.time() - found.st_mtime
        except OSError:
            version, age = (0, 0, 0), float("inf")
        is_settled = not 0 <= age < _SETTLED_SECONDS  # a negative age is another machine's clock
        if self._file_rules is not None and (version == self._file_version or not is_settled):
            return
        try:
            self._file_text, self._file_rules = document.load_file(self._path)
        except RulesError as error:
            log.error("rules file refused", errors=error.lines)  # noqa: TRY400 - the lines say everything
            self._errors = error.lines
            self._file_rules = self._file_rules or _load_accepted(connection, error)
        else:
            self._errors = ()
            log.info("rules file in force", file=str(self._path), alerts=len(self._file_rules.alerts))
        self._file_version = version

    def _merge_api_rules(self, connection: Connection) -> Rules:
        assert self._file_rules is not None  # noqa: S101 - the file was loaded before
        names = {rule.name for rule in self._file_rules.alerts}
        loaded: dict[str, tuple[object, AlertRule | None]] = {}
        for stored in alerts.list_rules(connection):
            version, rule = (stored.updated_at, stored.name in names), None
            if stored.name in self._api_rules and self._api_rules[stored.name][0] == version:
                rule = self._api_rules[stored.name][1]
            elif stored.name in names:
                log.warning("API rule ignored: the rules file has a rule of that name", rule=stored.name)
            else:
                try:
                    rule = document.load_alert_rule(stored.definition)
                except RulesError as error:
                    log.warning("API rule ignored: this version cannot read it", rule=stored.name, errors=error.lines)
            loaded[stored.name] = (version, rule)
        self._api_rules = loaded
        in_force = [rule for _, rule in loaded.values() if rule is not None]
        return Rules(suppression=self._file_rules.suppression, alerts=(*self._file_rules.alerts, *in_force))


def require_rules(path: Path | None, database_url: str) -> None:
    """Raise RulesError, with everything that is wrong, if a process would have no rules to start with.

    Connects to the database only if the file is wrong.
    """
    if path is None:
        return
    try:
        document.load_file(path)
    except RulesError as error:
        database = engine.create_engine(database_url, application="rules", pool_size=1)
        try:
            with database.connect() as connection:
                _load_accepted(connection, error)
        finally:
            database.dispose()


def _load_accepted(connection: Connection, error: RulesError) -> Rules:
    """Return the rules of the file that any process accepted last. Raises `error` if there are none."""
    accepted = store.get_accepted(connection)
    if accepted is None:
        raise error
    try:
        rules = document.load(accepted.text, accepted.path)
    except RulesError:  # a version that accepts more has accepted it
        raise error from None
    log.warning("last accepted rules in force", file=accepted.path, accepted_at=str(accepted.accepted_at))
    return rules
