"""A set's map in a browser: a planted class is a cluster, what is drawn around is taken exactly and becomes a set; and
how much variety each layer lets through.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from digits_models import digits, file_of, write_module
from playwright.sync_api import Browser, Page, expect
from served import Application, export, open_page, settle, until
from sklearn.decomposition import PCA

import hookscope as hs
from hookscope.dashboard.sets.members import scan
from hookscope.dashboard.sets.store import key_of

pytestmark = pytest.mark.browser
COUNT, PLANTED = 120, 8
# where each point lies, in pixels of the window
PLACES = """() => {
    const frame = document.querySelector('.plane-graph');
    const plot = frame.querySelector('.js-plotly-plot');
    const { xaxis, yaxis } = plot._fullLayout;
    const { left, top } = frame.getBoundingClientRect();
    return plot.calcdata[0].map(({ x, y }, point) => [
        plot.data[0].customdata[point][0],
        left + xaxis._offset + xaxis.l2p(x),
        top + yaxis._offset + yaxis.l2p(y),
    ]);
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each class; the pictures of one class are turned to their negatives."""
    found = tmp_path_factory.mktemp("digits")
    write_module(found)
    pictures, classes = digits()
    for number in range(COUNT):
        place = found / "set" / str(int(classes[number]))
        place.mkdir(parents=True, exist_ok=True)
        file_of(shown(pictures[number], int(classes[number])), place / f"{number:03}.png")
    return found


def shown(picture: torch.Tensor, label: int) -> torch.Tensor:
    return -picture if label == PLANTED else picture


@pytest.fixture(scope="module")
def members(folder: Path) -> list[int]:
    """Of each picture of the set, by its number there, which digit of scikit-learn's it is."""
    return [int(member.path.stem) for member in scan("key", "name", folder / "set").members if member.path]


@pytest.fixture(scope="module")
def labels(members: list[int]) -> np.ndarray:
    return digits()[1].numpy()[members]


@pytest.fixture(scope="module")
def application(folder: Path) -> Iterator[Application]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        offered = ("--model", "digits=digits_net:whole", "--images", f"line 4={folder / 'set'}")
        started = Application(folder / "cache", *offered)
        yield started
        started.stop()


def open_map(page: Page, application: Application, more: str = "") -> None:
    """The map of the set, which is looked through first if it was not."""
    open_page(page, f"{application.url}?tab=pictures&set_page=map&set_a={key_of('line 4')}{more}")
    expect(page.locator(".sweep-state .sweep-line")).to_contain_text("line 4", timeout=60_000)
    button = page.locator(".sweep-state button.primary")
    if button.count():
        button.click()
    expect(page.locator(".sweep-state .sweep-line")).to_contain_text(f"{COUNT} of {COUNT}", timeout=60_000)
    until(lambda: page.locator("[data-again]").count() == 0, what="for the end of the sweep")
    expect(page.locator("#set-map")).to_contain_text(f"{COUNT} pictures" if "layer" not in more else "pictures")
    until(lambda: page.locator(".plane-graph .point").count() == COUNT)
    settle(page)


def places(page: Page) -> tuple[np.ndarray, np.ndarray]:
    """Of each point its picture's number, and where it lies, (point, 2), once it stays there: a figure grows, too."""
    page.locator(".plane-graph").scroll_into_view_if_needed()
    seen = [page.evaluate(PLACES)]
    until(lambda: page.wait_for_timeout(500) or seen.append(page.evaluate(PLACES)) or seen[-1] == seen[-2])
    found = np.array(seen[-1])
    return found[:, 0].astype(int), found[:, 1:]


def draw_around(page: Page, corners: np.ndarray) -> None:
    """With the pointer, from corner to corner and back to the first."""
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in (*corners[1:], corners[0]):
        page.mouse.move(*corner, steps=15)
    page.mouse.up()


def inside(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Bool (point,): whether an odd number of sides lies to the right of each."""
    x, y = points.T
    odd = np.zeros(len(points), bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, 0), strict=True):
        across = (y1 > y) != (y2 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            odd ^= across & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return odd


def nearest_side(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """How far each point lies from the outline, in pixels."""
    found = np.full(len(points), np.inf)
    for one, other in zip(corners, np.roll(corners, -1, 0), strict=True):
        along = other - one
        share = np.clip((points - one) @ along / (along @ along), 0, 1)
        found = np.minimum(found, np.linalg.norm(points - one - share[:, None] * along, axis=1))
    return found


def table(application: Application, page: Page, region: str) -> list[dict[str, str]]:
    address = page.locator(f"{region} a[download]").get_attribute("href")
    return list(csv.DictReader(io.StringIO(urlopen(application.url.rstrip("/") + str(address)).read().decode())))


def taken(page: Page) -> int:
    said = page.locator(".plane-count").inner_text()
    return int(said.split()[0]) if said else 0


def test_a_planted_class_is_a_cluster_and_becomes_a_set(
    page: Page, application: Application, members: list[int], labels: np.ndarray
) -> None:
    open_map(page, application)
    expect(page.locator("#set-map")).to_contain_text("of the variance")
    numbers, points = places(page)
    planted = labels[numbers] == PLANTED
    assert planted.sum() > 5
    low, high = points[planted].min(0) - 5, points[planted].max(0) + 5
    corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
    assert not inside(points[~planted], corners).any()  # it lies apart from all others
    draw_around(page, corners)
    until(lambda: taken(page) == planted.sum())
    expect(page.locator(".plane-thumbs .thumb")).to_have_count(min(12, int(planted.sum())))

    field = page.get_by_label("Name of the new set")
    expect(field).to_have_value(f"{planted.sum()} of line 4")
    field.fill("the negatives")
    with page.expect_request(re.compile("/subset")) as asking:
        page.click(".plane-taken button.primary")
    assert sorted(json.loads(str(asking.value.post_data))["numbers"]) == sorted(numbers[planted].tolist())
    expect(page.locator(".sweep-state .sweep-line")).to_contain_text(f"0 of {planted.sum()}")
    expect(page.locator(".set-choice [aria-pressed=true]").first).to_have_text("the negatives")
    page.click("button:has-text('Look through it')")
    expect(page.locator("#set-map-classes")).to_contain_text(f"{PLANTED}{planted.sum()}", timeout=60_000)
    expect(page.locator("#set-map-classes button")).to_have_count(1)
    page.go_back()
    expect(page.locator(".sweep-state .sweep-line")).to_contain_text(f"{COUNT} of {COUNT}")


def test_what_is_drawn_around_is_taken_exactly(page: Page, application: Application) -> None:
    open_map(page, application)
    numbers, points = places(page)
    (left, top), (right, bottom) = np.quantile(points, 0.1, 0), np.quantile(points, 0.85, 0)
    middle = (left + right) / 2, (top + bottom) / 2
    # a figure with a dent, so that its corners alone do not tell what lies within
    corners = np.array([[left, top], [right, top], middle, [right, bottom], [left, bottom]])
    within = inside(points, corners)
    sure = nearest_side(points, corners) > 3  # a pointer moves by whole pixels, and Plotly straightens its way
    assert 10 < within.sum() < COUNT - 10
    draw_around(page, corners)
    until(lambda: taken(page) > 0)
    with page.expect_request(re.compile("/subset")) as asking:
        page.click(".plane-taken button.primary")
    chosen = np.isin(numbers, json.loads(str(asking.value.post_data))["numbers"])
    np.testing.assert_array_equal(chosen[sure], within[sure])
    assert sure.mean() > 0.8


def test_pointing_shows_the_picture_and_a_click_opens_it(
    page: Page, application: Application, members: list[int], labels: np.ndarray
) -> None:
    open_map(page, application)
    numbers, points = places(page)
    alone = int(np.argmax(np.sort(np.linalg.norm(points[:, None] - points, axis=2), 1)[:, 1]))
    page.mouse.move(*(points[alone] - 2))
    page.mouse.move(*points[alone])
    card = page.locator(".plane-card")
    expect(card).to_be_visible()
    name = f"{members[numbers[alone]]:03}.png"
    expect(card).to_contain_text(name)
    expect(card).to_contain_text(re.compile(rf"answered \d \(\d\.\d\d\), labelled {labels[numbers[alone]]}$"))
    until(lambda: card.locator("img").evaluate("image => image.complete && image.naturalWidth > 0"))
    page.mouse.move(*(points.min(0) - 60))
    expect(card).to_be_hidden()
    page.mouse.move(*points[alone])
    expect(card).to_be_visible()  # Plotly looks where the pointer is 20 times a second, and knows no click before
    page.mouse.click(*points[alone])
    expect(page.locator(".inputs")).to_contain_text(name, timeout=20_000)


def test_it_is_worked_by_keyboard_and_by_class(
    page: Page, application: Application, members: list[int], labels: np.ndarray
) -> None:
    open_map(page, application)
    frame = page.locator(".plane-graph")
    page.locator("#set-map a[download]").focus()
    until(lambda: page.keyboard.press("Tab") or frame.evaluate("frame => frame === document.activeElement"), 10.0)
    numbers, points = places(page)
    first = str(frame.get_attribute("aria-label"))
    assert first.startswith(f"{members[numbers[0]]:03}.png: ") and "not taken" in first
    expect(page.locator(".plane-card")).to_be_visible()
    page.keyboard.press("ArrowRight")
    second = str(frame.get_attribute("aria-label"))
    reached = next(n for n in range(COUNT) if second.startswith(f"{members[numbers[n]]:03}.png: "))
    assert points[reached][0] > points[0][0]
    page.keyboard.press("Space")
    until(lambda: taken(page) == 1)
    expect(frame).to_have_attribute("aria-label", re.compile(", taken"))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    until(lambda: taken(page) == 2)
    page.keyboard.press("Escape")
    until(lambda: taken(page) == 0)

    three, five = (int((labels == each).sum()) for each in (3, 5))
    legend = page.locator("#set-map-classes")
    expect(legend).to_contain_text("Classes, by label")
    expect(legend.locator("button", has_text=re.compile(rf"^3\s*{three}$"))).to_be_visible()
    page.click("[data-do=take-class][data-value='3']")
    until(lambda: taken(page) == three)
    page.click("[data-do=take-class][data-value='5']")
    until(lambda: taken(page) == three + five)
    page.click("[data-do=take-class][data-value='3']")
    until(lambda: taken(page) == five)
    page.click(".plane-taken button:has-text('leave them')")
    until(lambda: taken(page) == 0)
    frame.focus()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-tab", "layers")


def test_the_map_is_pca_of_what_the_network_gives_and_of_a_chosen_layer_that_layers(
    page: Page, application: Application, folder: Path, members: list[int], labels: np.ndarray
) -> None:
    net = write_module(folder)["plain"]()
    pictures, classes = digits()
    given = torch.stack([shown(pictures[member], int(classes[member])) for member in members])
    open_map(page, application)
    for layer in ("relu3", "conv1"):
        with hs.capture(net, [layer]) as seen, torch.no_grad():
            wrong = net(given).argmax(1).numpy() != labels
        expected = PCA(2, svd_solver="full").fit_transform(seen[layer].value.mean((2, 3)).double().numpy())
        if layer == "conv1":
            page.click("[role=treeitem]:has-text('conv1')")
            expect(page.locator("#set-map h2")).to_contain_text("conv1")
            page.locator("button:has-text('the features before the head')").wait_for()
        rows = {int(row["number"]): row for row in table(application, page, "#set-map")}
        assert sorted(rows) == list(range(COUNT))
        ours = np.array([[float(rows[n]["first axis"]), float(rows[n]["second axis"])] for n in range(COUNT)])
        np.testing.assert_allclose(np.abs(ours), np.abs(expected), rtol=1e-2, atol=1e-3)
        assert [int(rows[n]["wrong"]) for n in range(COUNT)] == wrong.tolist()
    page.click("button:has-text('the features before the head')")
    expect(page.locator("#set-map h2")).not_to_contain_text("conv1")


def test_tsne_comes_after_a_moment_with_what_it_does_not_mean(page: Page, application: Application) -> None:
    open_map(page, application)
    page.click("#set-map button:has-text('t-SNE')")
    said = page.locator("#set-map")
    expect(said).to_contain_text("How far clusters lie apart", timeout=60_000)
    expect(said).to_contain_text("means nothing (perplexity 30, seed 0)")
    assert "map_by=tsne" in page.evaluate("location.search")
    until(lambda: page.locator(".plane-graph .point").count() == COUNT)
    page.reload()
    expect(said).to_contain_text("seed 0", timeout=60_000)
    page.click("#set-map button:has-text('PCA')")
    expect(said).to_contain_text("of the variance")


def test_variety_along_the_depth_is_the_librarys_and_a_click_shows_the_layer(
    page: Page, application: Application, folder: Path, members: list[int]
) -> None:
    open_map(page, application)
    page.click("#set-pages button:has-text('Along the depth')")
    expect(page.locator("#set-information")).to_contain_text("Width is told from one place of each of 64 pictures")
    expect(page.locator(".plane-graph")).to_be_hidden()
    net = write_module(folder)["plain"]()
    pictures, classes = digits()
    given = torch.stack([shown(pictures[member], int(classes[member])) for member in members])
    told = hs.information(hs.sweep(net, given.split(20), [hs.statistics(), hs.information(drawn=64)]))
    rows = {row["layer"]: row for row in table(application, page, "#set-information")}
    for step in told:
        row = rows[step.layer]
        assert int(row["channels"]) == step.channels and int(row["at most"]) == step.ceiling
        assert float(row["effective rank"]) == pytest.approx(step.effective_rank, rel=1e-3)
        assert float(row["participation ratio"]) == pytest.approx(step.participation_ratio, rel=1e-3)
        assert float(row["entropy (bits)"]) == pytest.approx(step.entropy, abs=0.05)
    charts = page.locator("#set-information .info-chart")
    expect(charts).to_have_count(3)
    expect(charts.first.locator("button")).to_have_count(len(rows))
    charts.first.locator("button", has=page.locator(".value")).nth(2).click()
    expect(page.locator("[role=treeitem][aria-selected=true]")).to_have_count(1)
    until(lambda: charts.first.locator(".chosen").count() == 1)


def test_the_exported_page_has_the_map(browser: Browser, page: Page, application: Application, tmp_path: Path) -> None:
    open_map(page, application)
    export(page, tmp_path / "page.html")
    context = browser.new_context(offline=True)
    offline = context.new_page()
    offline.goto((tmp_path / "page.html").as_uri())
    expect(offline.locator(".set-map h2")).to_contain_text("Map of the pictures")
    expect(offline.locator(".plane-graph .point")).to_have_count(COUNT)
    expect(offline.locator(".plane-classes")).to_contain_text("Classes, by label")
    assert not offline.locator(".plane-hint").is_visible()
    context.close()
