"""`make quick` chooses by what a test needs, and so a new file of tests is on the right side by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from quick import need, read

TEXT = """
import helpers_of_mine
import pytest
from bench import crowd
from bench.application import hookscope
from bench.report import Table
from inline_app import InlineApp
from served import Application, until
from torchvision import models

limit = models.resnet18

@pytest.fixture
def app(tmp_path):
    return InlineApp(tmp_path)

@pytest.fixture
def running(tmp_path):
    return Application(tmp_path)

@pytest.fixture
def visited(running):
    return running.url

def make():
    return limit()

class Page:
    def picture(self):
        return self.inputs.receive(b"", None, "x.png")

def test_arithmetic(): assert 1 + 1 == 2
def test_words(): until(lambda: Table)
def test_asked_of_the_app(app): app.client.post("/ask")
def test_uploaded(app): app.client.post("/upload?name=x.png")
def test_received(): Page().picture()
def test_by_a_fixture_of_a_fixture(visited): pass
def test_by_a_fixture_for_everybody(page): page.goto("about:blank")
def test_by_a_name_that_is_no_fixture(): page = 1
def test_a_model(): assert make()
def test_by_the_bench(): crowd.rush(None, 4)
def test_imported_where_it_is_needed():
    import subprocess
    subprocess.run([])
"""
QUICK = {
    "test_arithmetic",
    "test_words",
    "test_asked_of_the_app",
    "test_by_a_name_that_is_no_fixture",
}


def test_a_new_file_is_on_the_right_side(tmp_path: Path) -> None:
    path = tmp_path / "test_new.py"
    path.write_text(TEXT)
    tests = {name for name in read(path).uses if name.startswith("test_")}
    assert len(tests) == 11
    assert {name for name in tests if not need(path, name)} == QUICK


@pytest.mark.parametrize(
    "around",
    [
        "pytestmark = pytest.mark.usefixtures(subprocess.run)",
        "@pytest.fixture(autouse=True)\ndef all(): subprocess.run([])",
    ],
)
def test_what_every_test_goes_through_counts(tmp_path: Path, around: str) -> None:
    path = tmp_path / "test_new.py"
    path.write_text(f"import pytest, subprocess\n{around}\ndef test_it(): pass\n")
    assert need(path, "test_it") == "subprocess"


def test_of_the_files_that_are_there_browsers_are_out_and_arithmetic_is_in() -> None:
    def counted(name: str) -> tuple[int, int]:
        path = Path(__file__).parent / name
        tests = [test for test in read(path).uses if test.startswith("test_")]
        return sum(not need(path, test) for test in tests), len(tests)

    assert counted("test_browser.py")[0] == counted("test_load.py")[0] == counted("test_no_memory.py")[0] == 0
    for name in ("test_geometry.py", "test_service.py", "test_queue.py", "test_targets.py"):
        quick, all_of_them = counted(name)
        assert quick > all_of_them / 2, name
