"""Every example in docs/examples runs: the Python blocks of each file in order, in one namespace.

A block that begins with "```python needs=mlflow" runs where that package is installed, which clashes with the tested
versions; `make test-slow` has it in an environment of its own.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

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


def test_the_dash_application_answers_what_a_browser_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start, and whenever the wall is drawn anew, a browser asks for a click that has not happened."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "own_dash_app"}
    for block in BLOCK.finditer((FOLDER / "own_dash_app.md").read_text(encoding="utf-8")):
        exec(block["code"], namespace)
    client = namespace["app"].server.test_client()
    assert client.get("/").status_code == 200
    asked = client.get("/_dash-dependencies").get_json()
    assert len(asked) == 2
    for click in (None, {"points": [{"z": 5}]}):
        for each in asked:
            given = {"which": 1, "mine-0-wall": click}
            inputs = [{**one, "value": given[one["id"]]} for one in each["inputs"]]
            place, _, what = each["output"].rpartition(".")
            question = {
                "output": each["output"],
                "outputs": {"id": place, "property": what},
                "inputs": inputs,
                "changedPropIds": [f"{one['id']}.{one['property']}" for one in inputs],
            }
            answer = client.post("/_dash-update-component", json=question)
            assert answer.status_code == 200, each["output"]
            if place == "clicked":
                assert answer.get_json()["response"]["clicked"]["children"] == ("channel 5" if click else "")


def test_there_are_examples() -> None:
    assert EXAMPLES
