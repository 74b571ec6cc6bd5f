"""Every example in docs/examples runs: the Python blocks of each file in order, in one namespace.

A block that begins with "```python needs=mlflow" runs where that package is installed, which clashes with the tested
versions; `make test-slow` has it in an environment of its own.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.md"))
BLOCK = re.compile(r"^```python(?: needs=(?P<package>\w+))?\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
CLASHING = {"mlflow"}


# Lightning's own
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec", "ignore:.*does not have many workers")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what an example writes, it writes there
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent / "src"))  # for programs that it starts
    text = path.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": path.stem}
    blocks = list(BLOCK.finditer(text))
    assert blocks, f"{path.name} has no Python block"
    for block in blocks:
        package = block["package"]
        assert package is None or package in CLASHING
        if package and importlib.util.find_spec(package) is None:
            continue
        above = text.count("\n", 0, block.start("code"))
        code = compile("\n" * above + block["code"], str(path), "exec")  # so that a traceback names the file's own line
        exec(code, namespace)


def test_there_are_examples() -> None:
    assert EXAMPLES
