"""The rules in force in one process: looked at again and again, and kept while what is new is wrong."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from sqlalchemy import Connection

from shared.alerts import store as alerts
from shared.alerts.policy import AlertRule
from shared.db import rules_in_force
from shared.domain.rules import Rules
from shared.rules import document
from shared.rules.problems import RulesError

_LOOK_SECONDS = 2.0
_SETTLED_SECONDS = 1.0
"""A file that was changed less than this ago may still be being written."""

log = structlog.get_logger()

_Signature = tuple[int, int, int]
_MISSING: _Signature = (0, 0, 0)


class RuleBook:
    """The rules of a file, or the defaults where `path` is None, with those that were made over the API.

    A file that is wrong is refused and logged, once for each time it is changed. What was in force before stays in
    force; a process that has just started takes what was accepted last by any.
    """

    def __init__(self, path: Path | None, *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._path = path
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._looked_at = 0.0
        self._seen: _Signature | None = None
        self._accepted: str | None = None
        self._of_file: Rules | None = None
        self._of_api: dict[str, tuple[object, AlertRule | None]] = {}
        self._rules: Rules | None = None
        self._errors: Sequence[str] = ()

    @property
    def errors(self) -> Sequence[str]:
        """What is wrong with the file, a line each; empty while the file is in force."""
        return self._errors

    def rules(self, connection: Connection) -> Rules:
        """The rules in force. Raises RulesError if the file is wrong and no rules were in force before."""
        with self._lock:
            now = time.monotonic()
            if self._rules is None or now - self._looked_at >= self._look_seconds:
                self._rules = self._look(connection)
                self._looked_at = now
            return self._rules

    def record(self, connection: Connection) -> None:
        """Have other processes know the file that is in force, should they start while it is wrong."""
        if self._path is None:
            rules_in_force.forget(connection)
        elif self._accepted is not None and not self._errors:
            rules_in_force.keep(connection, str(self._path), self._accepted)

    def _look(self, connection: Connection) -> Rules:
        of_file = self._look_at_file(connection)
        of_api = self._look_at_api(connection, {rule.name for rule in of_file.alerts})
        return Rules(suppression=of_file.suppression, alerts=(*of_file.alerts, *of_api))

    def _look_at_file(self, connection: Connection) -> Rules:
        if self._path is None:
            self._of_file = self._of_file or document.default()
            return self._of_file
        seen = _signature(self._path)
        if self._of_file is None or (seen != self._seen and _is_settled(seen)):
            self._of_file = self._read(self._path, connection)
            self._seen = seen
        return self._of_file

    def _read(self, path: Path, connection: Connection) -> Rules:
        try:
            self._accepted, rules = document.read_file(path)
        except RulesError as error:
            return self._refuse(error, connection)
        self._errors = ()
        log.info("the rules file is in force", file=str(path), alerts=len(rules.alerts))
        return rules

    def _refuse(self, error: RulesError, connection: Connection) -> Rules:
        log.error("the rules file is refused", errors=error.lines)
        self._errors = error.lines
        return self._of_file or _last_accepted(connection, error)

    def _look_at_api(self, connection: Connection, taken: set[str]) -> list[AlertRule]:
        stored = alerts.rules_of_api(connection)
        read = {}
        for rule in stored:
            version = rule.updated_at, rule.name in taken
            known = self._of_api.get(rule.name)
            read[rule.name] = known if known and known[0] == version else (version, _of_api(rule, taken))
        self._of_api = read
        return [rule for _, rule in read.values() if rule is not None]


def _of_api(rule: alerts.ApiRule, taken: set[str]) -> AlertRule | None:
    if rule.name in taken:
        log.warning("a rule of the API is passed over: the rules file has one of its name", rule=rule.name)
        return None
    try:
        return document.read_rule(rule.definition)
    except RulesError as error:
        log.warning("a rule of the API cannot be read by this version", rule=rule.name, errors=error.lines)
        return None


def _last_accepted(connection: Connection, error: RulesError) -> Rules:
    """What any process accepted last. Raises the error with which the file was refused if there is nothing."""
    accepted = rules_in_force.find(connection)
    if accepted is None:
        raise error
    try:
        rules = document.read(accepted.text, accepted.path)
    except RulesError:  # by a version that took what this one does not
        raise error from None
    log.warning("what was accepted last is in force", file=accepted.path, accepted_at=str(accepted.accepted_at))
    return rules


def _signature(path: Path) -> _Signature:
    try:
        found = path.stat()
    except OSError:
        return _MISSING
    return found.st_mtime_ns, found.st_size, found.st_ino


def _is_settled(seen: _Signature) -> bool:
    return not 0 <= time.time() - seen[0] / 1e9 < _SETTLED_SECONDS
