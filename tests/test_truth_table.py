"""docs/truth.md names a test for every trap, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "truth.md").read_text(encoding="utf-8")
NAMED = re.findall(r"(test_\w+\.py)::(test_\w+)", TEXT)
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| \d", line)]


def defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert test in defined(TESTS / file)


def test_every_row_names_a_test() -> None:
    assert len(ROWS) > 65
    assert [row for row in ROWS if "::test_" not in row] == []


def test_every_test_of_the_traps_is_named() -> None:
    for path in TESTS.glob("test_truth_*.py"):
        if path.name != Path(__file__).name:
            unnamed = {name for name in defined(path) if name.startswith("test_")} - {test for _, test in NAMED}
            assert len(unnamed) <= 4, f"{path.name}: {unnamed}"
