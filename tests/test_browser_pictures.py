"""A set of pictures in a browser, worked from its failures: a class that always fails and a channel that is dead are
found where the page points.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from digits_models import digits, file_of, write_module
from playwright.sync_api import Browser, Page, expect
from served import Application, export, open_page, until

pytestmark = pytest.mark.browser
COUNT, FAILS, DEAD = 120, 3, 5
ODD = 30  # digits of a second set, which holds a picture of noise, too
PLANTED = f"""
    from digits_net import HOW, plain


    def planted():
        net = plain()
        net.fc.bias.data[{FAILS}] = -1000.0  # a class that always fails
        net.conv2.weight.data[{DEAD}] = 0  # and a channel that never fires
        net.conv2.bias.data[{DEAD}] = -1.0
        return net, HOW
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("digits")
    write_module(found)
    (found / "planted_net.py").write_text("\n".join(line[4:] for line in PLANTED.splitlines()))
    pictures, classes = digits()
    for number in range(COUNT):
        place = found / "set" / str(int(classes[number]))
        place.mkdir(parents=True, exist_ok=True)
        file_of(pictures[number], place / f"{number:03}.png")
    (found / "set" / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    (found / "odd").mkdir()
    for number in range(COUNT, COUNT + ODD):
        file_of(pictures[number], found / "odd" / f"{number:03}.png")
    noise = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    file_of(noise, found / "odd" / "noise.png")  # what is no digit at all
    return found


@pytest.fixture(scope="module")
def expected(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The shares (picture, class) that the network gives, and the classes, by hand."""
    namespace = write_module(folder)
    net = namespace["plain"]()
    net.fc.bias.data[FAILS] = -1000.0
    net.conv2.weight.data[DEAD], net.conv2.bias.data[DEAD] = 0, -1.0
    pictures, classes = digits()
    with torch.no_grad():
        return net(pictures[:COUNT]).softmax(1).numpy(), classes[:COUNT].numpy()


@pytest.fixture(scope="module")
def application(folder: Path) -> Iterator[Application]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        offered = (
            "--model",
            "digits=planted_net:planted",
            "--images",
            f"line 4={folder / 'set'}",
            "--images",
            f"odd={folder / 'odd'}",
        )
        started = Application(folder / "cache", *offered)
        yield started
        started.stop()


def look_through(page: Page, application: Application) -> None:
    """Go from the start page to the set, and wait until all of it has been looked at."""
    open_page(page, application.url)
    page.click("nav.tabs button:has-text('Pictures')")
    page.click(".set-choice button:has-text('line 4')")
    expect(page.locator("#set-state .sweep-line")).to_contain_text("line 4")
    button = page.locator(".sweep-state button")
    if button.count():
        button.click()
    expect(page.locator("#set-state .sweep-line")).to_contain_text(f"{COUNT} of {COUNT + 1}", timeout=60_000)
    expect(page.locator("#set-state .sweep-line")).to_contain_text("1 could not be read")
    until(lambda: page.locator("[data-again]").count() == 0, what="for the end of the sweep")
    expect(page.locator("#set-mistakes h2")).to_contain_text(f"mistakes among {COUNT}", timeout=60_000)


def test_a_person_works_from_the_failures(
    page: Page, application: Application, expected: tuple[np.ndarray, np.ndarray]
) -> None:
    shares, classes = expected
    best = shares.argmax(1)
    wrong = np.flatnonzero(best != classes)
    look_through(page, application)

    title = page.locator("#set-mistakes h2")
    expect(title).to_have_text(f"{len(wrong)} mistakes among {COUNT} · {np.mean(best == classes):.1%} right")
    first = wrong[np.argmax(shares[wrong, best[wrong]])]
    cell = page.locator(".thumb").first
    expect(cell).to_have_attribute(
        "title", re.compile(rf"{first:03}\.png: {best[first]} .*, labelled {classes[first]}$")
    )
    expect(page.locator(".thumb")).to_have_count(min(24, len(wrong)))
    until(lambda: page.locator(".thumb img").first.evaluate("image => image.complete && image.naturalWidth > 0"))

    rows = page.locator("#set-classes tbody tr")
    expect(rows.first).to_contain_text(f"{FAILS}0 of {(classes == FAILS).sum()}")  # the class that always fails leads
    rows.first.locator("button").first.click()
    expect(page.locator("#set-mistakes .chosen-of-set .pill")).to_have_text(f"{FAILS} ×")
    about = (classes == FAILS) | (best == FAILS)
    expect(page.locator(".thumb")).to_have_count(min(24, int((about & (best != classes)).sum())))
    page.locator("#set-mistakes .chosen-of-set .pill").click()

    expect(page.locator(".sweep-state details")).to_contain_text("One file is not used")
    expect(page.locator(".sweep-state details .each")).to_contain_text("0/broken.png This picture is damaged")
    expect(page.locator("#set-silent")).to_contain_text(f"over {COUNT} pictures")
    table = _table(application, page, "answers")
    assert len(table) == COUNT + 1 and [each["picture"] for each in table if not each["answer"]] == ["0/broken.png"]
    assert "damaged" in table[-1]["why it has no answer"]
    assert {each["picture"] for each in table[:-1]} == {f"{classes[n]}/{n:03}.png" for n in range(COUNT)}


def _table(application: Application, page: Page, name: str) -> list[dict[str, str]]:
    address = str(page.locator(f"a[href*='/{name}.csv']").first.get_attribute("href"))
    return list(csv.DictReader(io.StringIO(urlopen(application.url.rstrip("/") + address).read().decode())))


def test_a_mistake_of_a_class_that_always_fails_says_why_nothing_stands_beside_it(
    page: Page, application: Application, expected: tuple[np.ndarray, np.ndarray]
) -> None:
    look_through(page, application)
    failing = page.locator(".thumb", has_text=f"is: {FAILS}").first
    failing.click()
    expect(page.locator("#input-a-caption")).to_contain_text(
        f".png, labelled {FAILS}", timeout=60_000
    )  # what it is said to show
    told = page.locator("#input-b-box .told:visible")
    expect(told).to_have_text(
        f"No other picture of {FAILS} is answered rightly, so none of its class stands here beside A."
    )
    assert "&b=" not in page.evaluate("location.search")


def test_a_mistake_is_held_against_the_most_alike_right_picture_and_back(page: Page, application: Application) -> None:
    look_through(page, application)
    at = page.evaluate("location.search")
    cell = page.locator(".thumb").first
    said = cell.locator(".said").inner_text().split()[0]
    label = re.search(r"labelled (\d)$", str(cell.get_attribute("title")))
    assert label is not None
    cell.click()
    expect(page.locator("#depth-charts button[aria-pressed=true]")).to_have_text("A against B")
    expect(page.locator("#input-a-top button.row").first).to_contain_text(said, timeout=60_000)
    if label[1] != str(FAILS):  # of that class no picture is answered rightly
        expect(page.locator("#input-b-top button.row").first).to_contain_text(label[1], timeout=60_000)
    page.go_back()
    expect(page.locator("#set-mistakes h2")).to_contain_text("mistakes among")
    expect(page.locator("#set-mistakes h2")).to_be_visible()
    assert page.evaluate("location.search") == at
    page.reload()
    expect(page.locator("#set-mistakes h2")).to_contain_text("mistakes among", timeout=60_000)
    assert page.evaluate("location.search") == at


def test_the_dead_channel_is_listed_and_has_an_empty_gallery(page: Page, application: Application) -> None:
    look_through(page, application)
    table = page.locator("#set-silent tbody tr", has_text="relu2")
    expect(table).to_contain_text("relu2")
    table.locator("button").click()  # its channels, those that fire in the fewest pictures first
    about = page.locator(".gallery .about")
    expect(about.first).to_contain_text(f"channel {DEAD}")
    expect(about.first).to_contain_text("never fired")
    title = page.locator("#set-channels h2")  # the click leads there
    until(lambda: 0 <= title.evaluate("title => title.getBoundingClientRect().top") < page.viewport_size["height"] - 50)
    expect(page.locator(".gallery").first).to_contain_text("It is 0 everywhere in every picture")
    expect(page.locator(".gallery").first.locator(".crop-cell")).to_have_count(0)
    expect(page.locator(".dead-channels")).to_have_text(f"One channel never fires: {DEAD}.")
    (silent,) = [each for each in _table(application, page, "silent") if each["layer"] == "relu2"]
    assert silent["channels that never fire"] == str(DEAD) and silent["pictures"] == str(COUNT)
    assert [each["kind"] for each in _table(application, page, "galleries") if each["channel"] == str(DEAD)] == [
        "never fires"
    ]
    field = "Each crop is what the unit with the largest value can depend on, 5 × 5 pixels"
    expect(page.locator("#set-channels")).to_contain_text(field)
    expect(page.locator(".gallery").nth(1).locator(".crop-cell")).to_have_count(9)
    page.click("#set-channels button:has-text('median')")
    until(lambda: page.locator(".gallery").nth(1).locator(".crop-cell").count() == 3)
    page.click("[role=treeitem]:has-text('conv1')")
    expect(page.locator("#set-channels h2")).to_have_text("What the channels of conv1 look for")
    expect(page.locator("#set-channels")).to_contain_text("3 × 3 pixels")


def test_the_table_holds_every_answer(
    page: Page, application: Application, expected: tuple[np.ndarray, np.ndarray]
) -> None:
    shares, _ = expected
    look_through(page, application)
    address = page.locator("#set-classes a").get_attribute("href")
    text = urlopen(application.url.rstrip("/") + str(address)).read().decode()
    rows = {Path(row["picture"]).name: row for row in csv.DictReader(io.StringIO(text))}
    assert len(rows) == COUNT + 1 and rows["broken.png"]["why it has no answer"]
    for number in range(COUNT):
        row = rows[f"{number:03}.png"]
        assert int(row["answer"]) == shares[number].argmax()
        assert float(row["share"]) == pytest.approx(shares[number].max(), abs=1e-4)


def test_the_built_in_photographs_are_a_first_set(page: Page, application: Application) -> None:
    open_page(page, application.url)
    page.click("nav.tabs button:has-text('Pictures')")
    expect(page.locator("#set-state")).to_contain_text("the built-in photographs are a first one")
    page.click(".set-choice button:has-text('built-in')")
    page.click("button:has-text('Look through it')")
    expect(page.locator("#set-mistakes h2")).to_contain_text("answers", timeout=60_000)
    until(lambda: page.locator("[data-again]").count() == 0, what="for the end of the sweep")
    until(lambda: page.locator(".thumb").count() > 12)
    expect(page.locator(".thumb.wrong")).to_have_count(0)


def test_two_sets_are_held_against_each_other(page: Page, application: Application) -> None:
    look_through(page, application)
    page.click(".set-choice button:has-text('built-in')")
    button = page.locator(".sweep-state button")
    expect(page.locator("#set-state .sweep-line")).to_contain_text("built-in photographs")
    if button.count():
        button.click()
    expect(page.locator("#set-state .sweep-line .mono")).to_have_text(re.compile(r"^(\d+) of \1$"))
    until(lambda: page.locator("[data-again]").count() == 0, what="for the end of the sweep")
    page.click("[aria-label='A second set'] button:has-text('line 4')")
    expect(page.locator("#set-gap h2")).to_have_text("built-in photographs against line 4")
    expect(page.locator("#set-gap")).to_contain_text(
        "The gap is there from", timeout=60_000
    )  # digits are no photographs
    bars = page.locator(".gap-bar")
    until(lambda: bars.count() > 5 and page.locator(".gap-bar.apart").count() > 5)
    bars.nth(2).click()
    expect(page.locator("#set-gap h3").first).to_contain_text("that differ most")
    expect(page.locator(".gap-channels .gallery")).to_have_count(6)
    expect(page.locator(".gap-channels .gallery").first.locator(".strip")).to_have_count(2)
    page.reload()
    expect(page.locator("#set-gap")).to_contain_text("The gap is there from", timeout=60_000)


def test_a_planted_outlier_leads_and_opens_at_the_layer_that_makes_it_one(page: Page, application: Application) -> None:
    look_through(page, application)
    page.click(".set-choice button:text-is('odd')")
    expect(page.locator("#set-state .sweep-line").first).to_contain_text("odd")
    button = page.locator(".sweep-state button")
    if button.count():
        button.click()
    expect(page.locator("#set-state .sweep-line").first).to_contain_text(f"{ODD + 1} of {ODD + 1}", timeout=60_000)
    page.click("#set-pages button:text-is('Outliers')")
    expect(page.locator("#set-outliers h2")).to_have_text(f"{ODD + 1} pictures, each against the others")
    cell = page.locator("#set-outliers .thumb")
    expect(cell.first).to_have_attribute("title", re.compile(r"^noise\.png: |^noise\.png, "))
    expect(cell.first).to_contain_text("beyond all")
    page.click("#set-outliers button:text-is('layers')")
    expect(cell.first).to_have_attribute("title", re.compile(r"^noise\.png, .*from conv1: "))
    expect(page.locator("#set-outliers-begin h2")).to_have_text("Where outliers begin to differ")

    page.click("[aria-label='A second set'] button:text-is('line 4')")
    expect(page.locator("#set-outliers h2")).to_have_text(f"{ODD + 1} pictures against {COUNT} of line 4")
    expect(page.locator("#set-outliers")).to_contain_text("by chance if both came from the same source")
    expect(cell.first).to_have_attribute("title", re.compile(r"^noise\.png, .*from conv1: "))
    address = page.locator("#set-outliers .head a").get_attribute("href")
    text = urlopen(application.url.rstrip("/") + str(address)).read().decode()
    rows = {row["picture"]: row for row in csv.DictReader(io.StringIO(text))}
    assert len(rows) == ODD + 1 and rows["noise.png"]["first layer"] == "conv1"
    assert float(rows["noise.png"]["p of the furthest"]) == pytest.approx(1 / (COUNT + 1))
    page.reload()
    expect(cell.first).to_have_attribute("title", re.compile(r"^noise\.png, .*from conv1: "), timeout=60_000)

    cell.first.click()
    expect(page.locator("#input-a-caption")).to_contain_text("noise.png", timeout=60_000)
    assert "layer=conv1" in page.evaluate("location.search")
    page.go_back()
    expect(cell.first).to_have_attribute("title", re.compile(r"^noise\.png, "))


def test_the_exported_page_has_its_pictures_inside(
    browser: Browser, page: Page, application: Application, tmp_path: Path
) -> None:
    look_through(page, application)
    said = page.locator("#set-mistakes h2").inner_text()
    export(page, tmp_path / "page.html")
    context = browser.new_context(offline=True)
    offline = context.new_page()
    offline.goto((tmp_path / "page.html").as_uri())
    expect(offline.locator(".set-pictures h2")).to_have_text(said)
    thumbs = offline.locator(".thumb img")
    assert thumbs.count() > 5
    own = "image => image.src.startsWith('data:image/jpeg') && image.naturalWidth > 0"
    for index in range(thumbs.count()):
        until(lambda index=index: thumbs.nth(index).evaluate(own))
    context.close()
