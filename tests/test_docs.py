"""The documentation names files that exist, and its decisions stay short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DECISIONS = sorted(ROOT.glob("docs/decisions/0*.md"))
MAX_DECISION_WORDS = 460
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`((?:receiver|workers|api|shared|cli|simulator|bench|tests|docs)/[\w/.-]+)`")


def name(path: Path) -> str:
    """The path below the project's root, as the id of a case."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_paths_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / target for target in LINK.findall(text) if "://" not in target and "mailto:" not in target]
    paths = [ROOT / path for path in PATH.findall(text)]
    assert [str(path) for path in [*links, *paths] if not path.exists()] == []


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_a_decision_is_short_and_in_the_index(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= MAX_DECISION_WORDS
    assert f"({page.name})" in (page.parent / "README.md").read_text(encoding="utf-8")
