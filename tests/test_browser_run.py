"""A training followed in a browser while another process writes it: at once, to its end, and after it was killed."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ENVIRON
from made_feeds import begin, groups, line, write_long
from playwright.sync_api import Browser, Page, expect
from served import Application, export, open_page, until
from tempo import limit

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.feed_files import read_feed

pytestmark = pytest.mark.browser
ON_THE_PAGE_SECONDS = 1.0
NET = """
import sys, time
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))

if __name__ == "__main__":
    import hookscope as hs
    folder, steps, every, pause, breaks = sys.argv[1], *map(float, sys.argv[2:])
    model = make()
    pictures, classes = torch.rand(16, 3, 8, 8), torch.arange(16) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(model, folder, every=int(every), optimizer=optimizer, pinned=pictures) as feed:
        for step in range(int(steps)):
            answer = model(pictures)
            loss = nn.functional.cross_entropy(answer if step < breaks else answer / 0, classes)
            loss.backward()
            feed.step(loss=loss)
            if step % 10 == 0:
                torch.save(model.state_dict(), f"{folder}/net-step{step}.pt")
            optimizer.step()
            optimizer.zero_grad()
            time.sleep(pause)
"""


class Training:
    """A real training in a process of its own."""

    def __init__(
        self, folder: Path, run: str, steps: int, every: int = 5, pause: float = 0.0, breaks: int = 10**9
    ) -> None:
        (folder / "trained_net.py").write_text(NET)
        command = [sys.executable, "trained_net.py", run, *map(str, (steps, every, pause, breaks))]
        self.process = subprocess.Popen(command, cwd=folder, env=ENVIRON, stderr=subprocess.DEVNULL)

    def end(self) -> None:
        """Wait for its own end."""
        assert self.process.wait(120) == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def application(place: Path) -> Iterator[Application]:
    Training(place, "done", 41).end()
    Training(place, "broken", 31, breaks=20).end()
    feeds = [part for name in ("done", "broken", "live", "killed") for part in ("--feed", f"{name}={place / name}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place))
        net = ("--model", "done=trained_net:make", "--input-size", "done=8")
        started = Application(place / "cache", "--model", "embedded", *net, *feeds)
        yield started
        started.stop()


def newest_written(folder: Path) -> tuple[int, float]:
    """The newest step of a feed, and when it was written."""
    try:
        found = read_feed(folder).looks
    except HooksError:
        return -1, 0.0
    return (found[-1].step, found[-1].time) if found else (-1, 0.0)


def shown_step(page: Page) -> int:
    place = page.locator(".run-newest")
    return int(place.first.inner_text().replace(",", "")) if place.count() else -1


def test_the_newest_step_is_on_the_page_within_a_second_and_a_killed_run_is_said_to_have_ended(
    page: Page, application: Application, place: Path
) -> None:
    open_page(page, f"{application.url}?model=embedded&tab=run&run=live")
    expect(page.locator("#run-head")).to_contain_text("There is no feed in live")
    training = Training(place, "live", 100_000, every=5, pause=0.12)  # a look every 0.6 s or more
    try:
        expect(page.locator(".run-phase")).to_have_text("running")
        until(lambda: shown_step(page) > 0)
        waited = []
        for _ in range(8):
            before = newest_written(place / "live")[0]
            step = before
            while step == before:
                time.sleep(0.005)
                step, written = newest_written(place / "live")
            while shown_step(page) < step:
                time.sleep(0.005)
            waited.append(time.time() - written)
        assert sorted(waited)[len(waited) // 2] < limit(ON_THE_PAGE_SECONDS), waited
        expect(page.locator(".run-age")).to_have_text(re.compile(r"now|\d+ s ago"))
        os.kill(training.process.pid, signal.SIGKILL)
        killed = time.monotonic()
        expect(page.locator(".run-phase")).to_have_text("has ended")
        assert time.monotonic() - killed < limit(2)
        expect(page.locator("#run-head")).to_contain_text("it was killed, or it crashed")
    finally:
        training.process.kill()
        training.process.wait()


def test_the_slider_moves_by_keys_and_what_stands_at_the_step_follows(page: Page, application: Application) -> None:
    open_page(page, f"{application.url}?model=done&tab=run")
    slider = page.get_by_role("slider", name="Step")
    expect(page.locator(".run-step")).to_have_text("40")
    lines = page.locator("#run-lines img").get_attribute("src")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".run-step")).to_have_text("0")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".run-step")).to_have_text("5")
    expect(page.locator("#run-pinned")).to_contain_text("at step 5")
    expect(page.locator("#run-ridge-at")).to_contain_text("at step 5")
    expect(page.locator("#metric-text")).to_contain_text("at step 5")
    expect(page.locator("#run-marker .line")).to_have_attribute("style", "left: 12.5%;")
    assert "run_step=5" in page.url and page.locator("#run-lines img").get_attribute("src") == lines
    # what a step shows is that step's: the pinned picture's maps are others at the first step
    first = page.locator(".run-maps img").first.get_attribute("src")
    page.keyboard.press("End")
    expect(page.locator("#run-pinned")).to_contain_text("at step 40")
    assert page.locator(".run-maps img").first.get_attribute("src") != first
    page.get_by_role("button", name="the last").click()
    expect(page).not_to_have_url(re.compile("run_step"))


PLACES = """() => {
  const middle = (box) => (box.left + box.right) / 2;
  const slider = document.querySelector(".run-slider input");
  const box = slider.getBoundingClientRect();
  const share = (slider.value - slider.min) / (slider.max - slider.min);
  return {
    thumb: box.left + 8 + share * (box.width - 16),  // it is 16 px wide, and does not leave the slider
    line: middle(document.querySelector("#run-marker .line").getBoundingClientRect()),
    ticks: Object.fromEntries([...document.querySelectorAll(".run-steps-below span")].map((each) =>
      [each.textContent, middle(each.getBoundingClientRect())])),
  };
}"""


def test_the_slider_stands_where_the_line_does_and_goes_from_look_to_look(page: Page, tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", ["conv"])
    steps = (0, 10, 20, 100, 300)  # and losses up to step 400
    text = "".join(line(number, step, {"conv": groups(1.0 + step)}, loss=1.0) for number, step in enumerate(steps))
    end = {"end": 1.0, "step": 401, "stopped_by": "", "losses": [[step, 0.5] for step in range(301, 401)]}
    (folder / "steps.jsonl").write_text(text + json.dumps(end) + "\n")
    started = Application(tmp_path / "cache", "--feed", f"run={folder}")
    try:
        open_page(page, f"{started.url}?tab=run")
        step, slider = page.locator(".run-step"), page.get_by_role("slider", name="Step")

        def stands_at(wanted: int) -> bool:
            """Whether the slider's thumb, the line and, if there is one, the number of a step are below each other."""
            found = page.evaluate(PLACES)
            tick = found["ticks"].get(str(wanted), found["line"])
            return all(abs(found["line"] - each) <= 1.5 for each in (found["thumb"], tick))

        expect(step).to_have_text("300")
        expect(page.locator("#run-alarms")).to_contain_text("No alarm until now.")
        expect(page.locator("#run-alarms p")).to_be_visible()
        slider.focus()
        for key, wanted in (
            *(("Home", 0), ("ArrowRight", 10), ("ArrowUp", 20), ("ArrowRight", 100), ("End", 300)),
            *(("ArrowRight", 300), ("ArrowLeft", 100), ("PageDown", 20), ("PageUp", 100)),
        ):
            page.keyboard.press(key)
            expect(step).to_have_text(str(wanted))
            expect(slider).to_have_attribute("aria-valuetext", f"step {wanted}")
            expect(page.locator("#run-layer")).to_contain_text(f"gradientnorm{wanted + 1}")
            until(lambda wanted=wanted: stands_at(wanted), what=f"for the slider and the line at {wanted}")
        assert {"0", "100", "200", "300", "400"} == set(page.evaluate(PLACES)["ticks"])
        box = slider.bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] / 2
        page.mouse.click(box["x"] + 8 + 0.6 * (box["width"] - 16), middle)  # at step 240, at which nobody looked
        expect(step).to_have_text("300")
        until(lambda: stands_at(300))
        found = page.evaluate(PLACES)
        page.mouse.move(found["thumb"], middle)  # and it is dragged
        page.mouse.down()
        page.mouse.move(found["ticks"]["0"] + 60, middle, steps=8)
        expect(step).to_have_text("20")
        page.mouse.up()
        page.mouse.click(found["ticks"]["100"], middle - 100)  # in the picture
        expect(step).to_have_text("100")
        until(lambda: stands_at(100))
    finally:
        page.goto("about:blank")
        started.stop()


def test_the_bars_are_as_high_as_the_table_beside_them(page: Page, application: Application) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    open_page(page, f"{application.url}?model=done&tab=run")
    expect(page.locator("#run-layer tr").first).to_be_visible()
    fill = page.locator(".run-bar.chosen .fill")
    places = [page.locator(each) for each in ("#run-depth", "#run-layer", ".run-bars", ".run-bar >> nth=0")]

    def are_as_high() -> bool:
        boxes = [each.bounding_box() for each in (*places, fill)]
        depth, layer, bars, bar, filled = (each["height"] if each else 0 for each in boxes)
        share = float((fill.get_attribute("style") or "").partition("height: ")[2].partition("%")[0]) / 100
        fits = depth == layer and bars > layer - 80 and bar == pytest.approx(bars, abs=1.5)
        return bool(fits and filled == pytest.approx(share * bar, rel=0.02))

    until(are_as_high, what="for bars as high as the table")


def test_a_layer_is_chosen_in_the_tree_the_bars_and_by_address_and_back_goes_back(
    page: Page, application: Application
) -> None:
    open_page(page, f"{application.url}?model=done&tab=run")
    expect(page.locator("#run-layer h2")).to_have_text("0")
    page.locator("[role=treeitem]", has_text="Linear").click()
    expect(page.locator("#run-layer h2")).to_have_text("5")
    assert "tab=run" in page.url and "run_layer=5" in page.url
    page.locator(".run-bar").nth(1).click()
    expect(page.locator("#run-layer h2")).to_have_text("2")
    page.go_back()
    expect(page.locator("#run-layer h2")).to_have_text("5")
    page.get_by_role("button", name="activation rms").click()
    expect(page.locator("#run-depth")).to_contain_text("activation rms along the depth")
    expect(page.locator(".run-bar")).to_have_count(6)  # the layers without weights have it too
    page.locator("#run-layer").get_by_role("button", name="open the layer").click()
    expect(page).to_have_url(re.compile(r"[?&]layer=5"))
    expect(page).not_to_have_url(re.compile("tab=run"))


def test_alarms_are_pins_and_cards_in_the_words_of_the_check_up(page: Page, application: Application) -> None:
    open_page(page, f"{application.url}?model=embedded&tab=run&run=broken")
    expect(page.locator("#metric-text")).to_contain_text("none of the layers of broken")
    pin = page.locator(".pin.is-error").first
    pin.focus()
    expect(pin.locator(".pin-said")).to_be_visible()
    expect(pin).to_contain_text("Do: ")
    card = page.locator("#run-alarms .finding.is-error").first
    expect(card).to_contain_text("non-finite")
    pin.press("Enter")
    expect(page).to_have_url(re.compile("run_step="))
    step = page.url.partition("run_step=")[2].partition("&")[0]
    assert int(step) >= 20
    expect(page.locator(".run-step")).to_have_text(step)


def test_two_runs_lie_over_one_another_and_are_shared_and_exported(
    page: Page, browser: Browser, application: Application, tmp_path: Path
) -> None:
    open_page(page, f"{application.url}?model=done&tab=run")
    page.get_by_role("group", name="beside it, dashed").get_by_role("button", name="broken").click()
    expect(page.locator(".run-name")).to_have_count(2)
    expect(page.locator("#run-curve-at")).to_contain_text("B NaN")
    page.click("#share")
    field = page.locator("#share-link input")
    expect(field).to_have_value(re.compile("share="))
    other = page.context.new_page()
    open_page(other, field.input_value())
    expect(other.locator(".run-name")).to_have_text(["done", "broken"])
    export(page, tmp_path / "page.html")
    with browser.new_context(offline=True) as context:
        alone = context.new_page()
        alone.goto((tmp_path / "page.html").as_uri())
        expect(alone.locator(".run-side img").first).to_be_visible()
        widths = alone.locator(".run-plot img").evaluate_all("images => images.map((each) => each.naturalWidth)")
        assert len(widths) == 2 and min(widths) > 0
    with page.expect_download() as saving:
        page.get_by_role("link", name="CSV").first.click()
    rows = Path(saving.value.path()).read_text().splitlines()
    assert rows[0] == "step,loss,0,1,2,3,4,5" and len(rows) == 10


def test_checkpoints_of_two_steps_are_sides(page: Page, application: Application) -> None:
    open_page(page, f"{application.url}?model=done&tab=run")
    page.locator("#run-checkpoints").get_by_role("button", name="step 40 as B").scroll_into_view_if_needed()
    page.get_by_role("button", name="step 0 in A against step 40 in B").click()
    expect(page).to_have_url(re.compile("model=done%400&.*model_b=done%4040"))
    for side in "ab":
        expect(page.locator(f"#input-{side}-top")).to_contain_text(re.compile(r"class \d"))
    a, b = (page.locator(f"#input-{side}-top").inner_text() for side in "ab")
    assert a != b


@pytest.mark.slow  # each checkpoint has a worker of its own
def test_a_side_moves_with_the_step_and_other_tabs_say_what_they_show(page: Page, application: Application) -> None:
    open_page(page, f"{application.url}?model=done&tab=run&a=sample-coffee&layer=0&run_step=25")
    page.get_by_role("button", name="Layers", exact=True).click()
    line = page.locator(".run-elsewhere")
    expect(line).to_contain_text("done is shown as it was loaded, not as at step 25 of done")
    line.get_by_role("button", name="open these as A").click()
    expect(page).to_have_url(re.compile("model=done%4020&"))
    expect(line).to_contain_text("has the weights of step 20, the last that were saved up to step 25 of done.")
    page.get_by_role("button", name="Run", exact=True).click()
    moves = page.get_by_role("button", name="A moves with the step")
    moves.click()
    expect(moves).to_have_attribute("aria-pressed", "true")
    slider = page.get_by_role("slider", name="Step")
    slider.focus()
    page.keyboard.press("End")
    expect(page).to_have_url(re.compile("model=done%4040&"))
    expect(page.locator("#model-select")).to_have_value("done@40")
    page.keyboard.press("Home")
    expect(page).to_have_url(re.compile("model=done%400&"))
    expect(page.get_by_role("button", name="step 0 as A").first).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Layers", exact=True).click()
    expect(page.locator("#tree")).to_contain_text("done@0")
    expect(page.locator(".card .statistics").first).to_be_visible()
    expect(line).to_have_count(0)  # it is that step
    page.get_by_role("button", name="Run", exact=True).click()
    moves.click()
    slider.focus()
    page.keyboard.press("End")
    expect(page.locator(".run-step")).to_have_text("40")
    page.get_by_role("button", name="Layers", exact=True).click()
    expect(line).to_contain_text("done@0 has the weights of step 0, not as at step 40 of done")
    line.get_by_role("button", name="forget the step").click()
    expect(line).to_have_count(0)
    assert "run_step" not in page.url


def test_two_people_look_at_a_run_each_in_a_way_of_their_own(
    page: Page, browser: Browser, application: Application
) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_page(page, f"{application.url}?model=done&tab=run")
    with browser.new_context() as context:
        other = context.new_page()
        other.on("pageerror", lambda error: errors.append(str(error)))
        open_page(other, f"{application.url}?model=embedded&tab=run&run=broken&run_step=10")
        axis, others = (each.get_by_role("group", name="Axis of the number of each layer") for each in (page, other))
        axis.get_by_role("button", name="linear").click()
        expect(axis.get_by_role("button", name="linear")).to_have_attribute("aria-pressed", "true")
        page.locator(".run-bar").nth(1).click()
        expect(page.locator("#run-layer h2")).to_have_text("2")
        other.get_by_role("button", name="activation rms").click()
        expect(other.locator("#run-depth")).to_contain_text("activation rms along the depth")
        other.get_by_role("button", name="weight norm").click()
        expect(other.locator("#run-depth")).to_contain_text("weight norm along the depth")
        expect(page.locator("#run-depth")).to_contain_text("gradient norm along the depth")
        curves = page.get_by_role("group", name="Curve over the steps")
        curves.get_by_role("button", name="learning rate").click()
        expect(page.get_by_alt_text("learning rate over the steps")).to_be_visible()
        expect(other.get_by_alt_text("loss over the steps")).to_be_visible()
        page.get_by_role("slider", name="Step").focus()
        page.keyboard.press("Home")
        expect(page.locator(".run-step")).to_have_text("0")
        expect(other.locator(".run-step")).to_have_text("10")
        expect(others.get_by_role("button", name="log")).to_have_attribute("aria-pressed", "true")
        other.go_back()
        expect(other.locator("#run-depth")).to_contain_text("activation rms along the depth")
        other.go_back()
        expect(other.locator("#run-depth")).to_contain_text("gradient norm along the depth")
        other.go_forward()
        expect(other.locator("#run-depth")).to_contain_text("activation rms along the depth")
        expect(other.locator(".run-name")).to_have_text("broken")
        address = page.url
        fields = {"run_scale=linear", "run_layer=2", "run_step=0", "run_curve=lr"}
        assert fields <= set(address.partition("?")[2].split("&"))
        open_page(other, address)  # copied
        for each in (page, other):
            expect(each.locator(".run-step")).to_have_text("0")
            expect(each.locator("#run-layer h2")).to_have_text("2")

        def lines(each: Page) -> tuple[str | None, str]:
            place = each.locator("#run-lines")
            return place.locator("img").get_attribute("src"), place.locator(".run-ticks").inner_text()

        until(lambda: lines(page) == lines(other))
        assert page.url == other.url == address
    assert not errors


@pytest.mark.slow  # it waits for two workers
def test_a_checkpoint_that_comes_while_the_page_is_open_is_offered_and_opened(
    page: Page, application: Application, place: Path
) -> None:
    open_page(page, f"{application.url}?model=done&tab=run")
    rows = page.locator("#run-checkpoints .run-weights")
    expect(rows.first).to_contain_text("step 0")
    before = rows.count()
    (place / "done" / "net-step34.pt").symlink_to(place / "done" / "net-step40.pt")
    shutil.copy(place / "done" / "net-step40.pt", place / "done" / "net-step33.pt")
    button = page.locator("#run-checkpoints").get_by_role("button", name="step 33 as A")
    expect(button).to_be_visible()
    expect(rows).to_have_count(before + 1)  # and no link
    button.click()
    expect(page).to_have_url(re.compile("model=done%4033&"))
    expect(page.locator("#model-select")).to_have_value("done@33")
    page.get_by_role("button", name="Layers", exact=True).click()
    expect(page.locator("#input-a-top")).to_contain_text(re.compile(r"class \d"))
    expect(page.get_by_label("Model of A")).to_have_value("done@33")
    other = page.context.new_page()
    open_page(other, page.url)  # by its address
    expect(other.locator("#input-a-top")).to_contain_text(re.compile(r"class \d"))
    expect(other.locator("#notice")).to_be_hidden()
    open_page(other, page.url.replace("done%4033", "done%4034"))
    expect(other.locator("#notice")).to_contain_text("does not offer the model 'done@34'")


MOVED = """(place) => new Promise((done) => {
  const slider = document.querySelector(".run-slider input");
  const begun = performance.now();
  document.addEventListener("answered", () => {
    requestAnimationFrame(() => setTimeout(() => {
      const said = (selector) => document.querySelector(selector).textContent;
      const bar = document.querySelector(".run-bar").title;
      done([performance.now() - begun, said(".run-step"), bar, said("#run-ridge-at")]);
    }, 0));
  }, { once: true });
  slider.value = 50 * place;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
})"""


@pytest.mark.slow  # it times
def test_a_move_over_5000_steps_of_300_layers_is_on_the_page_in_200_ms(page: Page, tmp_path: Path) -> None:
    long, short = write_long(tmp_path / "long", 5_000, 300), write_long(tmp_path / "short", 50, 12)
    started = Application(tmp_path / "cache", "--feed", f"long={long}", "--feed", f"short={short}")
    medians = {}
    try:
        for run, looks in (("short", 50), ("long", 5_000)):
            open_page(page, f"{started.url}?tab=run&run={run}")
            expect(page.locator(".run-step")).to_have_text(f"{50 * (looks - 1):,}", timeout=120_000)
            expect(page.locator("#run-head")).not_to_contain_text("Reading")
            page.wait_for_timeout(1500)  # until what the page does besides is done
            took = []
            for share in (0.5, 0.98, 0.01, 0.4, 0.6, 0.1, 0.99, 0.3, 0.7):
                place = int(share * looks)
                seconds, step, bar, said = page.evaluate(MOVED, place)
                value = round(math.exp(math.sin(place / 400)), 4)  # as `write_long` has it of the first layer
                assert step.replace(",", "") == str(50 * place) and f"at step {50 * place:,}" in said
                assert float(bar.rpartition(" ")[2]) == pytest.approx(value, rel=1e-3)
                took.append(seconds / 1000)
            medians[run] = sorted(took)[len(took) // 2]
            print(f"{run}: median {medians[run]:.3f} s, worst {max(took):.3f} s")
        assert medians["long"] < limit(0.2), medians
    finally:
        page.goto("about:blank")
        started.stop()


def test_without_a_run_the_page_says_how_to_begin(page: Page, tmp_path: Path) -> None:
    started = Application(tmp_path)
    try:
        open_page(page, started.url)
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.locator("#run-head")).to_contain_text("feed.step(loss=loss)")
        expect(page.locator(".run-time")).to_be_hidden()
    finally:
        page.goto("about:blank")  # before the server ends, which a page that is open would say
        started.stop()
