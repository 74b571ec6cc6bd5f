"""The mistakes of a set in a browser: by name, by pair, by a second model; held against the right ones; the likest."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from digits_models import bordered, digits, file_of, write_module
from playwright.sync_api import Page, expect
from served import Application, open_page, row, until
from sklearn.metrics import confusion_matrix

pytestmark = pytest.mark.browser
COUNT = 150
NETS = """
    import torch

    from digits_net import HOW, plain


    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = plain()

        def forward(self, picture):
            return torch.nn.functional.normalize(self.net(picture), dim=1)


    def worse():
        net = plain()
        net.fc.bias.data[3] = -1000.0
        return net, HOW


    def tower():
        return Tower().eval(), {name: value for name, value in HOW.items() if name != "classes"}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The networks, digits of which every one that is answered wrongly has a grey border, and some without labels."""
    found = tmp_path_factory.mktemp("digits")
    net = write_module(found)["plain"]()
    (found / "more_nets.py").write_text("\n".join(line[4:] for line in NETS.splitlines()))
    pictures, classes = digits()
    framed = torch.stack([bordered(each) for each in pictures[:COUNT]])
    with torch.no_grad():
        wrong = net(framed).argmax(1) != classes[:COUNT]
        right = net(pictures[:COUNT]).argmax(1) == classes[:COUNT]
    for number in range(COUNT):
        if not wrong[number] and not right[number]:
            continue
        place = found / "set" / str(int(classes[number]))
        place.mkdir(parents=True, exist_ok=True)
        file_of((framed if wrong[number] else pictures)[number], place / f"{number:03}.png")
    for number in range(200, 230):
        (found / "loose").mkdir(exist_ok=True)
        file_of(pictures[number], found / "loose" / f"{number}.png")
    return found


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, tuple[int, np.ndarray]]:
    """By file: its class, and the shares (class,) that the network gives, by hand."""
    net = write_module(folder)["plain"]()
    pictures, classes = digits()
    found = {}
    for path in (folder / "set").rglob("*.png"):
        number = int(path.stem)
        named = [bordered(pictures[number]), pictures[number]]
        with torch.no_grad():
            shares = net(torch.stack(named)).softmax(1).numpy()
        wrong = int(shares[0].argmax()) != int(classes[number])
        found[path.name] = int(classes[number]), shares[0 if wrong else 1]
    return found


@pytest.fixture(scope="module")
def application(folder: Path) -> Iterator[Application]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        models = ("digits=digits_net:whole", "worse=more_nets:worse", "tower=more_nets:tower")
        sets = (f"bordered={folder / 'set'}", f"loose={folder / 'loose'}")
        offered = [
            *(word for each in models for word in ("--model", each)),
            *(w for s in sets for w in ("--images", s)),
        ]
        started = Application(folder / "cache", *offered)
        yield started
        started.stop()


def look_through(page: Page, application: Application, name: str, query: str = "") -> None:
    """Go to a set, and wait until all of it has been looked at."""
    open_page(page, f"{application.url}?tab=pictures{query}")
    page.click(f".set-choice button:has-text('{name}')")
    expect(page.locator("#set-state .sweep-line")).to_contain_text(name)
    finish(page, "#set-state")


def finish(page: Page, where: str) -> None:
    begin = page.locator(f"{where} .sweep-state button:has-text('Look through it')")
    if begin.count():
        begin.click()
    until(lambda: seen_all(page, where) and not page.locator("[data-again]").count())


def seen_all(page: Page, where: str) -> bool:
    # the texts in one go, because a second model's line goes when it is done
    told = page.locator(f"{where} .sweep-line .mono").all_inner_texts()
    if not told:
        return where != "#set-state"
    done, _, total = told[0].partition(" of ")
    return done == total


def names(page: Page) -> list[str]:
    """The files that are shown."""
    return [str(each.get_attribute("alt")) for each in page.locator(".thumb img").all()]


def table(application: Application, page: Page, name: str) -> list[dict[str, str]]:
    address = str(page.locator(f"a[href*='/{name}.csv']").first.get_attribute("href"))
    return list(csv.DictReader(io.StringIO(urlopen(application.url.rstrip("/") + address).read().decode())))


def test_every_wrong_picture_has_a_border_and_the_page_leads_there(
    page: Page, application: Application, expected: dict[str, tuple[int, np.ndarray]]
) -> None:
    wrong = {name for name, (label, shares) in expected.items() if shares.argmax() != label}
    look_through(page, application, "bordered")
    expect(page.locator("#set-mistakes h2")).to_contain_text(f"{len(wrong)} mistakes among {len(expected)}")
    assert set(names(page)) <= wrong and len(names(page)) == min(24, len(wrong))
    page.click("button:has-text('mistakes against the right ones')")
    expect(page.locator("#set-gap h2")).to_have_text(
        "mistakes of bordered against right ones of bordered", timeout=60_000
    )
    until(lambda: not page.locator("[data-again]").count() and "gap" in page.locator("#set-gap").inner_text())
    expect(page.locator("#set-gap")).to_contain_text("The gap is there from", timeout=60_000)
    expect(page.locator("#set-gap")).to_contain_text("colour, brightness or sharpness differ")
    expect(page.locator("#set-gap")).to_contain_text(
        f"Answered rightly: 0.0% of mistakes of bordered (0 of {len(wrong)}), 100.0% of right ones of bordered"
    )
    expect(page.locator("#set-gap")).to_contain_text("Told apart:", timeout=60_000)
    said = re.search(r"Told apart: (\d+) of (\d+) held-out pictures", page.locator("#set-gap").inner_text())
    assert said is not None and int(said[1]) > 0.9 * int(said[2])
    expect(page.locator(".told .crop-cell")).to_have_count(16)
    rows = table(application, page, "gaps")
    assert [each["layer"] for each in rows][:2] == ["conv1", "relu1"]
    assert {(each["pictures"], each["pictures of the other"]) for each in rows} == {
        (str(len(wrong)), str(min(len(expected) - len(wrong), 128)))
    }


def test_pictures_are_chosen_by_name_and_by_pair_and_back(
    page: Page, application: Application, expected: dict[str, tuple[int, np.ndarray]]
) -> None:
    labels = np.array([label for label, _ in expected.values()])
    best = np.array([int(shares.argmax()) for _, shares in expected.values()])
    counts = confusion_matrix(labels, best, labels=range(10))
    look_through(page, application, "bordered")
    rows = table(application, page, "confusion")
    assert {(int(each["label"]), int(each["answer"])): int(each["pictures"]) for each in rows} == {
        (int(one), int(other)): int(counts[one, other]) for one, other in np.argwhere(counts)
    }
    np.fill_diagonal(counts, 0)
    label, answer = (int(each) for each in np.unravel_index(counts.argmax(), counts.shape))
    page.click(f".confusion button[aria-label^='{label} taken for {answer}:']")
    expect(page.locator(".chosen-of-set .pill")).to_have_text(f"{label} taken for {answer} ×")
    until(lambda: 0 <= page.locator("#set-mistakes h2").evaluate("title => title.getBoundingClientRect().top") < 450)
    wanted = {name for name, (own, shares) in expected.items() if own == label and int(shares.argmax()) == answer}
    until(lambda: set(names(page)) == wanted)
    assert len(wanted) == counts[label, answer]
    field = page.get_by_role("searchbox", name=re.compile("file's name contains"))
    some = sorted(wanted)[0]
    field.fill(some[:3].upper())
    expect(page.locator(".chosen-of-set")).to_contain_text("one picture")
    until(lambda: names(page) == [some])
    field.fill("zebra")
    expect(page.locator(".none-such")).to_have_text("No picture's name contains “zebra”.")
    assert "named=zebra" in unquote(page.evaluate("location.search"))
    page.reload()
    expect(page.locator(".none-such")).to_have_text("No picture's name contains “zebra”.", timeout=60_000)
    expect(field).to_have_value("zebra")
    page.go_back()  # what was typed made no entry of its own
    expect(page.locator("#set-mistakes h2")).to_contain_text("mistakes among")
    until(lambda: field.input_value() == "" and not page.locator(".chosen-of-set .pill").count())


def test_a_second_model_is_looked_through_and_held_against_the_first(
    page: Page, application: Application, expected: dict[str, tuple[int, np.ndarray]]
) -> None:
    look_through(page, application, "bordered")
    page.click("[aria-label='A second model'] button:has-text('worse')")
    expect(page.locator("#set-agreement")).to_contain_text(
        re.compile("has not looked through this set yet|worse right"), timeout=120_000
    )
    finish(page, "#set-agreement")
    expect(page.locator("#set-agreement table")).to_be_visible(timeout=60_000)
    first = {name: int(shares.argmax()) == label for name, (label, shares) in expected.items()}
    without = {name: np.where(np.arange(10) == 3, -1, shares) for name, (_, shares) in expected.items()}
    second = {name: int(without[name].argmax()) == label for name, (label, _) in expected.items()}
    cells = [
        int(each.inner_text()) for each in page.locator("#set-agreement table button").all()
    ]  # both right, the second wrong; the first wrong, both wrong
    assert cells == [
        sum(first[name] == one and second[name] == other for name in expected)
        for one, other in ((True, True), (True, False), (False, True), (False, False))
    ]
    page.locator("#set-agreement table button").nth(1).click()
    expect(page.locator(".chosen-of-set .pill")).to_have_text("wrong in worse only ×")
    lost = {name for name in expected if first[name] and not second[name]}
    until(lambda: len(names(page)) == min(24, len(lost)))
    assert set(names(page)) <= lost and all(expected[name][0] == 3 for name in lost)
    expect(page.locator(".thumb").first).to_contain_text(re.compile(r"worse: \d"))

    # a click has the picture in both, and the choice is there when somebody comes back
    expect(page.locator(".thumb").first).to_have_attribute("data-value", re.compile('"model_b": "worse"'))
    until(lambda: "agreement=other" in page.evaluate("location.search"))
    at = page.evaluate("location.search")
    name = names(page)[0]
    page.locator(".thumb").first.click()
    for side in "ab":
        expect(page.locator(f"#input-{side}-caption")).to_contain_text(f"{name}, labelled 3", timeout=60_000)
    view = page.evaluate("hookscope.view()")
    assert view["a"] == view["b"] and (view["model"], view["model_b"], view["tab"]) == ("digits", "worse", "depth")
    expect(page.locator("#input-a-top button.row").first).to_contain_text("3", timeout=60_000)
    best = str(int(without[name].argmax()))
    expect(page.locator("#input-b-top button.row").first).to_contain_text(best, timeout=60_000)
    page.click("nav.tabs button:has-text('Pictures')")
    expect(page.locator(".chosen-of-set .pill")).to_have_text("wrong in worse only ×")
    until(lambda: len(names(page)) == min(24, len(lost)) and "tab=pictures" in page.evaluate("location.search"))
    page.go_back()
    expect(page.locator("#depth-charts button[aria-pressed=true]")).to_have_text("A against B")
    until(lambda: page.evaluate("hookscope.view().tab") == "depth")
    page.go_back()
    until(lambda: page.evaluate("location.search") == at)
    expect(page.locator(".chosen-of-set .pill")).to_have_text("wrong in worse only ×")


def test_the_likest_pictures_of_an_embedding_stand_first(page: Page, application: Application, folder: Path) -> None:
    look_through(page, application, "loose", "&model=tower")
    expect(page.locator("#set-state")).to_contain_text("The model answers an embedding")
    pictures, _ = digits()
    net = write_module(folder)["plain"]()
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(net(pictures[200:230]), dim=1).numpy()
    order = [f"{200 + index}.png" for index in np.argsort(-(vectors @ vectors[4]), kind="stable")]
    until(lambda: names(page) == [f"{number}.png" for number in range(200, 224)], what="for all that was seen")
    cell = page.locator(".thumb-cell").nth(4)
    cell.hover()
    cell.locator(".alike").click()
    expect(page.locator(".chosen-of-set .pill")).to_have_text("like 204.png ×")
    assert order[0] == "204.png"
    until(lambda: names(page)[:6] == order[:6])
    value = float((vectors @ vectors[4])[int(order[1][:3]) - 200])
    expect(page.locator(".thumb").nth(1)).to_contain_text(f"cosine {value:.3f}")
    page.locator(".thumb").nth(1).click()  # the one as A, the other as B
    expect(page.locator("#input-a-caption")).to_contain_text("204.png", timeout=60_000)
    expect(page.locator("#input-b-caption")).to_contain_text(order[1])
    page.click("nav.tabs button:has-text('Pictures')")
    page.locator(".chosen-of-set .pill").click()
    until(lambda: names(page)[:1] == ["200.png"])
    page.click("#set-mistakes .tabs button:has-text('like A')")
    expect(page.locator("#set-mistakes .tabs button[aria-pressed=true]")).to_have_text("like A")
    until(lambda: names(page)[:3] == order[:3])


def test_the_tables_of_galleries_and_without_labels(page: Page, application: Application) -> None:
    look_through(page, application, "loose")
    expect(page.locator("#set-mistakes .tabs button[aria-pressed=true]")).to_have_text("least sure")
    answers = table(application, page, "answers")
    margins: dict[str, Any] = {each["picture"]: float(each["margin"]) for each in answers}
    until(lambda: names(page) == sorted(margins, key=lambda name: margins[name])[:24], what="for all that was seen")
    expect(page.locator("#set-classes h2")).to_have_text("Answers")
    row(page, "conv2").click()
    expect(page.locator("#set-channels h2")).to_contain_text("conv2")
    expect(page.locator("#set-channels")).to_contain_text("Each crop is")
    rows = table(application, page, "galleries")
    assert {each["channel"] for each in rows} == {str(channel) for channel in range(16)}
    crops = [each for each in rows if each["row"]]
    assert crops and all(0 <= float(each["left"]) < float(each["right"]) <= 1 for each in crops)
    missing = application.url + "set/set-none/galleries.csv?model=digits&layer=conv2"
    with pytest.raises(OSError, match="404"):
        urlopen(missing)
