"""The structure of the code: imports follow the contracts of pyproject.toml, and files and functions stay short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE, LONGEST_FUNCTION = 500, 75  # lines


def sources() -> Iterator[tuple[str, str]]:
    for folder in ("trainer", "tuner", "tests", "bench", "examples", ".ci"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function after its signature and its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_files_and_functions_stay_short() -> None:
    files = {name: text.count("\n") for name, text in sources()}
    functions = {
        f"{name}:{node.lineno} {node.name}": lines_of(node)
        for name, text in sources()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(files) > 300
    assert {name: count for name, count in files.items() if count > LONGEST_FILE} == {}
    assert {name: count for name, count in functions.items() if count > LONGEST_FUNCTION} == {}


def test_client_has_no_import_cycle() -> None:
    """Each module is removed once all that it imports are removed; what remains is a cycle, or imports one."""
    import grimp

    graph = grimp.build_graph("tuner", exclude_type_checking_imports=False, cache_dir=None)
    left = {
        module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules
    }
    while free := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    assert {module: imported & left.keys() for module, imported in left.items()} == {}


def test_import_contracts_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlinter.cli import lint_imports

    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    code = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert code == 0, capsys.readouterr().out
