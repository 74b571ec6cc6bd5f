"""A visitor brings pictures of their own in a browser, as files, a folder, a zip or by drop, and deletes them again."""

from __future__ import annotations

import base64
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from conftest import Watch
from digits_models import digits, file_of, write_module
from playwright.sync_api import Browser, Locator, Page, expect
from served import Application, open_page, until

pytestmark = pytest.mark.browser
COUNT = 40
BUILT_IN = "built-in photographs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of digits; a folder of them, by class; and the same as a zip with what does not belong into it."""
    found = tmp_path_factory.mktemp("digits")
    write_module(found)
    pictures, classes = digits()
    for number in range(COUNT):
        place = found / "mine" / str(int(classes[number]))
        place.mkdir(parents=True, exist_ok=True)
        file_of(pictures[number], place / f"{number:03}.png")
    (found / "mine" / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    (found / "mine" / "notes.txt").write_text("no picture")
    with zipfile.ZipFile(found / "packed.zip", "w") as made:
        for path in sorted((found / "mine").rglob("*.png")):
            made.write(path, f"packed/{path.relative_to(found / 'mine')}")
        made.writestr("packed/inner.zip", b"PK\x05\x06" + bytes(18))
        made.writestr("../../outside.png", b"x")
    return found


@pytest.fixture(scope="module")
def application(folder: Path) -> Iterator[Application]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        started = Application(folder / "cache", "--model", "digits=digits_net:whole", "--max-upload-mb", "1")
        yield started
        started.stop()


def open_tab(page: Page, application: Application) -> None:
    open_page(page, application.url)
    page.click("nav.tabs button:has-text('Pictures')")
    expect(page.locator("#set-drop")).to_contain_text("drop a folder, a zip or many pictures")
    expect(offered(page).first).to_have_text(BUILT_IN)  # which is drawn after the place above which it stands


def chosen(page: Page) -> str:
    return parse_qs(str(page.evaluate("location.search"))[1:]).get("set_a", [""])[0]


def offered(page: Page) -> Locator:
    """The sets that can be chosen, by name."""
    return page.locator("[aria-label='Set of pictures'] button")


def test_many_files_become_a_set_that_is_looked_through_and_deleted(
    page: Page, browser: Browser, application: Application, folder: Path
) -> None:
    open_tab(page, application)
    files = sorted(path for path in (folder / "mine").rglob("*") if path.is_file())
    page.set_input_files("#set-files", files)
    expect(page.locator(".sweep-state .sweep-line > strong")).to_have_text(f"{COUNT + 1} pictures")
    assert len(chosen(page)) == 22
    expect(page.locator("#set-making")).to_be_hidden()
    expect(offered(page)).to_have_text([BUILT_IN, f"{COUNT + 1} pictures"])
    page.click("button:has-text('Look through it')")
    expect(page.locator("#set-mistakes h2")).to_contain_text(f"{COUNT} answers")
    expect(page.locator(".sweep-line").last).to_contain_text(f"{COUNT} of {COUNT + 1}")
    expect(page.locator(".sweep-state")).to_contain_text("One file is not used")
    until(lambda: page.locator(".thumb img").first.evaluate("image => image.complete && image.naturalWidth > 0"))

    # it is there after another set, Back and a reload; in another browser with its address only
    page.click("[aria-label='Set of pictures'] button:has-text('built-in')")
    expect(page.locator(".sweep-state .sweep-line > strong")).to_have_text(BUILT_IN)
    expect(offered(page)).to_have_text([BUILT_IN, f"{COUNT + 1} pictures"])
    expect(page.locator(".delete-set")).to_have_count(0)
    page.go_back()
    expect(page.locator(".sweep-state .sweep-line > strong")).to_have_text(f"{COUNT + 1} pictures")
    page.reload()
    expect(page.locator("#set-mistakes h2")).to_contain_text(f"{COUNT} answers")
    context = browser.new_context()
    other = context.new_page()
    open_tab(other, application)
    expect(offered(other)).to_have_text([BUILT_IN])
    other.goto(page.url)
    expect(other.locator("#set-mistakes h2")).to_contain_text(f"{COUNT} answers")
    expect(other.locator(".delete-set")).to_have_count(0)

    page.click("#set-mistakes .tabs button:has-text('all')")
    page.click("[aria-label='A second set'] button:has-text('built-in')")
    until(lambda: "shown=all" in page.evaluate("location.search") and "set_b=" in page.evaluate("location.search"))
    page.click(".delete-set summary")
    page.click(".delete-set button")
    expect(page.locator("#set-state")).to_contain_text("Choose a set above, or bring one")
    expect(offered(page)).to_have_text([BUILT_IN])
    until(lambda: not {"set_a", "shown", "set_b"} & set(parse_qs(page.evaluate("location.search")[1:])))
    other.reload()
    expect(other.locator("#set-state")).to_contain_text("This set is not known here, or no more.")
    context.close()
    sets = folder / "cache" / "sets"
    assert not list((sets / "visitors").iterdir()) and not list((sets / "found").iterdir())


def test_a_zip_becomes_a_set_with_what_is_refused_told(page: Page, application: Application, folder: Path) -> None:
    open_tab(page, application)
    page.set_input_files("#set-files", folder / "packed.zip")
    expect(page.locator(".sweep-state .sweep-line > strong")).to_have_text("packed")
    page.click(".sweep-state > details summary")
    told = page.locator(".sweep-state .each")
    expect(told).to_contain_text("inner.zip A zip within a zip is not opened")
    expect(told).to_contain_text("outside.png Its path leads out of the zip")
    page.click("button:has-text('Look through it')")
    expect(page.locator("#set-mistakes h2")).to_contain_text("right")  # its folders are the classes


def test_a_folder_becomes_a_set_of_its_name(page: Page, application: Application, folder: Path) -> None:
    open_tab(page, application)
    page.set_input_files("#set-folder", folder / "mine")
    expect(page.locator(".sweep-state .sweep-line > strong")).to_have_text("mine")
    expect(page.locator(".sweep-line").last).to_contain_text(f"0 of {COUNT + 1}")


def test_files_that_are_dropped_on_the_tab_become_a_set(page: Page, application: Application, folder: Path) -> None:
    open_tab(page, application)
    data = base64.b64encode(next((folder / "mine").rglob("000.png")).read_bytes()).decode()
    dropped = page.evaluate_handle(
        """(data) => { const transfer = new DataTransfer();
             const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
             const add = (name) => transfer.items.add(new File([bytes], name, { type: "image/png" }));
             ["one.png", "two.png"].forEach(add);
             return transfer; }""",
        data,
    )
    page.dispatch_event("#set-drop", "dragover", {"dataTransfer": dropped})
    expect(page.locator("#set-drop.over")).to_have_count(1)
    page.dispatch_event("#set-drop", "drop", {"dataTransfer": dropped})
    expect(page.locator(".sweep-state .sweep-line > strong")).to_have_text("2 pictures")
    expect(page.locator("#set-drop.over")).to_have_count(0)
    assert "a=" not in str(page.evaluate("location.search")).replace("set_a=", "")  # and no input


def test_a_folder_that_is_dropped_becomes_a_set_with_its_folders_as_labels(
    page: Page, application: Application, folder: Path
) -> None:
    open_tab(page, application)
    box = page.locator("#set-drop").bounding_box()
    assert box is not None
    devtools = page.context.new_cdp_session(page)
    carried = {"items": [], "files": [str(folder / "mine")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        where = {"x": box["x"] + 20, "y": box["y"] + 10}
        devtools.send("Input.dispatchDragEvent", {"type": kind, **where, "data": carried})
    expect(page.locator(".sweep-state .sweep-line > strong")).to_have_text("mine")
    expect(page.locator(".sweep-line").last).to_contain_text(f"0 of {COUNT + 1}")
    assert "No folder is the name" not in page.locator(".sweep-state").inner_text()  # they are the classes


def test_what_cannot_be_a_set_is_told_and_an_upload_is_cancelled(
    page: Page, application: Application, folder: Path, watch: Watch, tmp_path: Path
) -> None:
    watch.expect("422")
    open_tab(page, application)
    (tmp_path / "large.png").write_bytes(bytes(1_100_000))
    (tmp_path / "empty.png").touch()
    page.set_input_files("#set-files", [tmp_path / "large.png", tmp_path / "empty.png"])
    told = page.locator("#set-refused")
    expect(told).to_contain_text("There is no picture in this that can be used.")
    expect(told).to_contain_text("larger than 1 MB")
    expect(told).to_contain_text("empty.png: The file is empty.")
    # the server does not answer: what has come so far can be left
    page.route("**/add?*", lambda route: None)
    page.set_input_files("#set-files", sorted((folder / "mine").rglob("*.png")))
    expect(page.locator("#set-making")).to_contain_text(f"0 of {COUNT + 1} pictures")
    expect(told).to_be_hidden()
    page.click("#set-making button")
    expect(page.locator("#set-making")).to_be_hidden()
    expect(told).to_be_hidden()
    expect(offered(page)).to_have_text([BUILT_IN])
    page.unroute("**/add?*")
    arriving = folder / "cache" / "sets" / "arriving"

    def is_empty() -> bool:
        page.wait_for_timeout(20)  # a request goes on only while playwright is spoken to
        return len(list(arriving.glob("*/*"))) == 1

    until(is_empty, what="for nothing but a lock")
    page.set_input_files("#set-files", sorted((folder / "mine" / "1").iterdir()))
    expect(page.locator(".sweep-state .sweep-line > strong")).to_contain_text("picture")
    expect(offered(page)).to_have_count(2)  # what was left has become none


def test_what_the_browser_remembers_may_be_nonsense(page: Page, application: Application) -> None:
    open_tab(page, application)
    for text in ("{", json.dumps({"a": 1}), json.dumps([1, None, "x" * 5000, "../../etc", "<script>"])):
        kept = """async (text) => { localStorage.setItem('hookscope-sets /', text); await window.hookscope.askAgain();
          return window.hookscope.ownSets().every((key) => typeof key === "string"); }"""
        with page.expect_response(re.compile("/ask$")) as answered:
            assert page.evaluate(kept, text)
        assert answered.value.ok
        expect(offered(page)).to_have_text([BUILT_IN])
    page.reload()
    expect(offered(page)).to_have_text([BUILT_IN])
