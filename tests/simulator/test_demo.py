"""The demo shows the whole system and claims only what it has checked."""

import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import cli
from cli.demo import report
from cli.demo.command import SCENARIO
from cli.demo.report import Act, print_checks
from simulator.api import Api
from simulator.findings import Examiner, settle
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.staging import stage

_LONGEST_SECONDS = 500


class EmptyApi(Api):
    """A Tidings that has heard of nothing."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", "")

    def items(self, path: str, **query: str | int) -> list[dict[str, Any]]:  # noqa: ARG002
        return []


def test_the_demo_does_not_hold_where_nothing_is_known() -> None:
    dialect = MailChannels()
    act = Act(
        slug="demo-mailchannels",
        dialect=dialect,
        play=stage(SCENARIO, dialect, count=13, seed=1, now=datetime.now(UTC)),
    )
    act.findings = settle(Examiner(EmptyApi(), dialect, act.slug).checks(act.play), within_seconds=0)
    screen = Console(file=io.StringIO(), width=100)
    assert not print_checks(screen, list(report.check_provider(EmptyApi(), act, {})))
    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    assert "✗ mailchannels: all 16 recipients have the expected status" in shown
    assert "no key was fetched" in shown


@pytest.mark.parametrize("own", ["postgresql://nobody@127.0.0.1:9/mine"])
def test_the_demo_runs_on_its_own_servers_and_exits_with_zero(own: str) -> None:
    environment = os.environ | {"TIDINGS_DATABASE_URL": own, "TIDINGS_BROKER_URL": "redis://127.0.0.1:9"}
    ended = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "--once"],
        cwd=Path(cli.__path__[0]).parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LONGEST_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "expectations held" in ended.stdout
    assert "✗" not in ended.stdout
    assert ended.stderr == ""
