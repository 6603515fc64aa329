"""The simulator is a second implementation of the wire formats: it must not import the first."""

import ast
from pathlib import Path

import simulator


def test_no_module_of_the_simulator_imports_the_providers() -> None:
    for path in Path(simulator.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            assert not [name for name in names if name.startswith("shared.providers")], path
