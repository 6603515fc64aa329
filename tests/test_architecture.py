"""The rules of the code: imports, purity of the policies, and text that no file may contain."""

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main as cli
from cli.supervisor.environment import RELEASE, read_procfile
from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
SHARED = ROOT / "shared"
PURE = sorted(
    {
        *SHARED.glob("**/policy.py"), *SHARED.glob("**/model.py"), *SHARED.glob("classification/*.py"),
        *SHARED.glob("events/*.py"), *(SHARED / name for name in (
            "addresses.py", "errors.py", "vocabulary.py", "alerts/rules.py",
            "changes/filters.py", "diagnosis/diagnose.py", "diagnosis/event_missing.py", "diagnosis/model.py",
            "diagnosis/not_received.py", "diagnosis/verdicts.py",
            "messages/state.py",
        )),
    }
)  # fmt: skip
# Calls that read or write anything but their arguments, or whose result differs from call to call.
FORBIDDEN_CALLS = {
    "open",
    "print",
    "input",
    "exec",
    "eval",
    "now",
    "utcnow",
    "today",
    "time",
    "sleep",
    "uuid4",
    "getenv",
}
FORBIDDEN_IMPORTS = {
    "asyncio", "http", "io", "logging", "os", "pathlib", "random", "secrets", "shutil", "socket", "sqlite3",
    "subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "uuid",
}  # fmt: skip
CALLING_OUT = {"http.client", "urllib.request", "pycurl", "shared.http.client"}
# In parts, so that this file does not match its own search.
PATHS_OF_A_MACHINE = ("/" + "work/", "/" + "home/", "/" + "root/", "/" + "Users/")
REGISTRIES = (
    "pypi" + ".org", "python" + "hosted.org", "registry." + "npmjs", "docker" + ".io", "gh" + "cr.io", "qu" + "ay.io",
    "index" + "-url", "trusted" + "-host",
)  # fmt: skip
# Words and phrases that plain technical English does not need: name the actor or use the standard term.
DISCOURAGED_PHRASES = (
    r"(?<![a-z])told(?!_at|[a-z])",
    r"\bheed(s|ed|ing)?\b",
    r"\bbystanders?\b",
    r"\bmanyeth\b",
    r"(?<![a-z])whoever(?![a-z])",
    r"\brim\b",
    r"(?<![a-z])door(bell)?(?![a-z])",
    r"\blet(s|ting)? go of\b",
    r"\bis at it\b",
    r"\bthose of these\b",
    r"(?<!says )\bthat there (is|are|was|were)\b",
    r"\bso[ _]many\b",
    r"\bas[ _]many[ _]as\b",
    r"\bnobody (knows?|needs?|looks?|waits?)\b",
    r"\bmade anew\b",
    r"\bgiven back\b",
    r"\bgo(es)? over to\b",
    r"\b(came|comes|come) of (it|them|that)\b",
    r"\b(in|by) an? \w+ of (its|their) own\b",
    r"\b(bury|buries|buried)\b",
    r"(?<![a-z])lodgers?(?![a-z])",
    r"(?<![a-z])housing(?![a-z])",
    r"\bshown this once\b",
    r"\bis another than\b",
    r"(?<!there )\bis no (address|error|form|list|object|source|time)\b",
    r"\bthe begin of\b",
    r"_MOST_",
    r"\bmost=",
)
# The results quote the program that printed them.
UNCHECKED = "bench/RESULTS.md"


def test_import_contracts_are_kept() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(SHARED)))
def test_pure_modules_do_no_input_or_output(path: Path) -> None:
    assert not imports(path) & FORBIDDEN_IMPORTS
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in FORBIDDEN_CALLS, f"line {node.lineno} calls {called}"


@pytest.mark.parametrize("folder", ["receiver", "shared/providers/webhooks"])
def test_packages_that_must_not_call_out_cannot(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        assert not imports(path) & CALLING_OUT, path


def imports(path: Path) -> set[str]:
    """The modules that a file imports, and for `from a import b` both `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


@pytest.mark.parametrize("word", [*PATHS_OF_A_MACHINE, *REGISTRIES])
def test_no_file_names_a_place_of_the_machine_it_was_written_on(word: str) -> None:
    command = ["git", "grep", "--untracked", "--line-number", "-I", "--fixed-strings", word]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode == 128:
        pytest.skip("not a git checkout")
    assert found.stdout == ""


@pytest.mark.parametrize("phrase", DISCOURAGED_PHRASES)
def test_texts_and_names_are_in_plain_english(phrase: str) -> None:
    pattern = re.compile(phrase, 0 if phrase.isupper() else re.IGNORECASE)
    command = ["git", "ls-files", "*.py", "*.md", "*.yaml"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 128:
        pytest.skip("not a git checkout")
    this_file = str(Path(__file__).relative_to(ROOT))
    names = {name for name in listed.stdout.splitlines() if name not in {this_file, UNCHECKED}}
    hits = [
        f"{name}:{number}: {line.strip()}"
        for name in sorted(names)
        if (ROOT / name).exists()
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert not hits, "\n".join(hits)


def test_every_setting_is_in_the_table_of_the_readme() -> None:
    documented = set(re.findall(rf"^\|\s*`({PREFIX}\w+)`", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert documented >= {PREFIX + entry.name.upper() for entry in fields(Settings)}


def test_every_variable_of_the_procfile_is_a_setting() -> None:
    used = set(re.findall(rf"\$\{{({PREFIX}\w+)", (ROOT / "Procfile").read_text()))
    assert used <= {PREFIX + entry.name.upper() for entry in fields(Settings)}


def test_the_composition_runs_every_process_of_the_procfile() -> None:
    composition = (ROOT / "docker-compose.yml").read_text()
    for name in set(read_procfile()) - {RELEASE}:
        assert f'["tidings", "run", "{name}"]' in composition


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name: str) -> None:
    shown = CliRunner().invoke(cli.main, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("Usage:")
