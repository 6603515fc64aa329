"""The documentation names files that exist, and its decisions stay short."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
GUIDES = ROOT / "docs" / "provider-guides.md"
DECISIONS = sorted(ROOT.glob("docs/decisions/0*.md"))
MAX_DECISION_WORDS = 460
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
EXCERPT = re.compile(r"<!-- (examples/\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
TEST = re.compile(r"`(tests/[\w/]+\.py)((?:::\w+)+)`")
ANCHOR = re.compile(r"\]\(([^)#\s]*)#([^)]+)\)")
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


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_to_a_section_lead_to_a_heading(page: Path) -> None:
    links = ANCHOR.findall(page.read_text(encoding="utf-8"))
    inside = [(page.parent / target if target else page, anchor) for target, anchor in links if "://" not in target]
    assert [(target.name, anchor) for target, anchor in inside if anchor not in anchors(target)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_on_a_page_is_that_of_the_example_it_names(page: Path) -> None:
    for example, code in EXCERPT.findall(page.read_text(encoding="utf-8")):
        assert code in (page.parent / example).read_text(encoding="utf-8"), f"{example} does not contain:\n{code}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_test_that_a_page_names_exists(page: Path) -> None:
    missing = []
    for path, names in TEST.findall(page.read_text(encoding="utf-8")):
        scope: ast.AST | None = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        for wanted in names.removeprefix("::").split("::"):
            inside = ast.iter_child_nodes(scope) if scope else ()
            scope = next((node for node in inside if getattr(node, "name", None) == wanted), None)
        if scope is None:
            missing.append(path + names)
    assert missing == []


def test_every_statement_of_the_guides_is_honoured_by_a_test_or_said_not_to_be() -> None:
    rows = re.findall(r"^\| (?!statement).+\|$", GUIDES.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 70
    assert [row for row in rows if not TEST.search(row) and "**Not honoured**" not in row] == []


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_a_decision_is_short_and_in_the_index(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= MAX_DECISION_WORDS
    assert f"({page.name})" in (page.parent / "README.md").read_text(encoding="utf-8")
