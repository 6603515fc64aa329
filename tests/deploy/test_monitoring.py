"""The dashboard and the alert rules name only metrics and labels that Tidings exports, and commands that exist."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli.main import main
from tests.support.command_line import parse_command
from tests.support.system import open_system
from tests.support.watched_system import WatchedSystem

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = json.loads((DEPLOY / "grafana-dashboard.json").read_text())["panels"]
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in ALERTS} | {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}
NAME = re.compile(r"\btidings_\w+")
SELECTED = re.compile(r"(tidings_\w+)\{([^}]*)\}")
GROUPED = re.compile(r"\bby \(([^)]*)\)\s*\(")


@pytest.fixture(scope="module")
def exported(watched: WatchedSystem) -> dict[str, set[str]]:
    """The labels of each series that the processes of an installation export, by its name."""
    found: dict[str, set[str]] = {}
    for line in watched.metrics.splitlines():
        if match := re.match(r"(\w+)(?:\{(.*)\})? ", line):
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return found


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_names_what_is_exported(exported: dict[str, set[str]], name: str) -> None:
    expression = EXPRESSIONS[name]
    names = NAME.findall(expression)
    assert names
    assert [used for used in names if used not in exported] == []
    for metric, matchers in SELECTED.findall(expression):
        assert set(re.findall(r"(\w+)\s*(?:=|!)", matchers)) <= exported[metric]
    for labels in GROUPED.findall(expression):
        assert set(labels.replace(" ", "").split(",")) <= set.union(*(exported[used] for used in names))


def test_every_metric_of_the_api_is_on_the_dashboard(exported: dict[str, set[str]]) -> None:
    shown = {name.removesuffix("_bucket") for panel in PANELS for name in NAME.findall(str(panel["targets"]))}
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in exported if name.startswith("tidings_")}
    assert families - {re.sub(r"_(sum|count)$", "", name) for name in shown} <= {
        "tidings_sources",
        "tidings_receiver_wakeups_total",
    }


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_happened_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith((".", ".'"))


def test_the_commands_of_alerts_run(database_url: str) -> None:
    labels = {"{{ $labels.role }}": "worker", "{{ $labels.source }}": "main"}
    with open_system(database_url) as system:
        system.create_source("main")
        for rule in ALERTS:
            for command in re.findall(r"`(tidings [^`]*)`", rule["annotations"]["next_step"]):
                for label, value in labels.items():
                    command = command.replace(label, value)  # noqa: PLW2901 - the labels of an alert
                parse_command(command)
                if not command.startswith("tidings run "):
                    result = CliRunner().invoke(main, shlex.split(command)[1:], env=system.environment)
                    assert "Usage:" not in result.output, result.output


def test_panels_do_not_overlap_and_have_distinct_ids() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        covered = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not covered & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= covered
