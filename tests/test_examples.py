"""Every example in docs/examples runs: the Python blocks of each file in order, in one namespace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what an example writes, it writes there
    text = path.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": path.stem}
    blocks = list(BLOCK.finditer(text))
    assert blocks, f"{path.name} has no Python block"
    for block in blocks:
        above = text.count("\n", 0, block.start(1))
        code = compile("\n" * above + block[1], str(path), "exec")  # so that a traceback names the file's own line
        exec(code, namespace)


def test_there_are_examples() -> None:
    assert EXAMPLES
