"""Findings in a browser: from the start page to what is wrong in three clicks, by address, exported, in the tree."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_models import BROKEN, DEAD, DROPPED, FORGOTTEN
from playwright.sync_api import Browser, Locator, Page, expect
from served import Application, export, open_page

pytestmark = pytest.mark.browser
FAULTY = ("dead", "forgotten", "broken", "dropping")
PATIENCE_MS = 90_000  # for a check-up of a model that is being loaded


ROOM = ("--models-limit-mb", "1200")  # for two of the models at once


@pytest.fixture(scope="module")
def pid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pid") / "slow"


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory, pid: Path) -> Iterator[Application]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        offered = ["--model", "plain=embedded", "--model", "raw=embedded", "--mean", "raw=0", "--std", "raw=1"]
        patch.setenv("FAULTY_PID", str(pid))
        for name in (*FAULTY, "slow"):
            offered += ["--model", f"{name}=faulty_models:{name}", "--mean", f"{name}=0.5", "--std", f"{name}=0.5"]
        started = Application(tmp_path_factory.mktemp("findings"), *ROOM, *offered)
        yield started
        started.stop()


def check_up(page: Page, application: Application, model: str) -> Locator:
    """From the start page of a model to its findings: one click."""
    open_page(page, f"{application.url}?model={model}")
    page.click("nav button:has-text('Findings')")
    expect(page.locator("#findings-state h2")).to_be_visible(timeout=PATIENCE_MS)
    return page.locator("#findings .finding").first


def test_pictures_prepared_otherwise_are_named_and_shown_beside_the_proposal(
    page: Page, application: Application
) -> None:
    first = check_up(page, application, "raw")
    expect(first).to_contain_text("preprocessing")
    expect(first).to_contain_text("error")
    expect(first.locator(".evidence .column.good")).to_have_count(1)
    first.get_by_role("button", name=re.compile("B prepared: −1 to 1")).click()
    expect(page.locator(".badge.note", has_text="−1 to 1").first).to_be_visible()
    expect(page).to_have_url(re.compile("prepare_b=symmetric"))
    a, b = (page.locator(f"#input-{side}-top") for side in "ab")
    expect(b).to_contain_text("espresso")
    expect(a.locator("button.row")).to_have_count(5)
    assert a.inner_text() != b.inner_text()
    page.go_back()
    expect(page.locator("#findings .finding").first).to_contain_text("preprocessing")


def test_dead_channels_are_found_at_their_layer_and_opened(page: Page, application: Application) -> None:
    check_up(page, application, "dead")
    found = page.locator("#findings .finding", has_text="dead-channels").first
    expect(found).to_contain_text(f"{len(DEAD[1])} of 672 channels")
    expect(found.locator(".evidence .column.bad").first).to_be_visible()
    bars = page.locator(".hs-tree")
    expect(page.locator("#metric-text")).to_contain_text("warning")
    expect(bars.locator(".hs-alarm").first).to_be_visible()  # the closed branch warns of the layer inside
    found.locator(".layer-link").click()
    expect(page.locator(".card").first).to_contain_text("blocks.4.1.bn1")
    assert f"channel={DEAD[1][0]}" in page.url and "tab=findings" not in page.url


def test_a_layer_that_was_never_loaded_is_named(page: Page, application: Application) -> None:
    found = check_up(page, application, "forgotten")
    expect(found).to_contain_text("partly-initialised")
    found.get_by_role("button", name="open the layer").click()
    expect(page.locator(".card").first).to_contain_text(FORGOTTEN)


def test_the_producer_of_nans_is_named_and_not_its_victims(page: Page, application: Application) -> None:
    found = check_up(page, application, "broken")
    expect(found).to_contain_text("non-finite")
    expect(found.locator(".layer-link")).to_have_text(re.compile(re.escape(BROKEN)))
    expect(page.locator("#findings .finding", has_text="non-finite")).to_have_count(1)
    expect(found.locator(".trail .bad").first).to_contain_text("NaN")


@pytest.mark.slow  # a page of its own
def test_a_dropout_that_is_on_is_found_where_it_is_called(page: Page, application: Application) -> None:
    found = check_up(page, application, "dropping")
    expect(found).to_contain_text("training-mode")
    expect(found).to_contain_text(DROPPED)
    found.get_by_role("button", name="open the layer").click()
    expect(page.locator(".card").first).to_contain_text(DROPPED)


def test_a_healthy_model_is_told_what_was_checked(
    page: Page, browser: Browser, application: Application, tmp_path: Path
) -> None:
    check_up(page, application, "plain")
    expect(page.locator(".findings-checked").first).to_contain_text("preprocessing")
    expect(page.locator("#findings .finding:is(.is-error, .is-warning)")).to_have_count(0)
    address = page.url
    with page.expect_download() as saving:
        page.locator("#findings-state").get_by_text("JSON", exact=True).click()
    found = json.loads(Path(saving.value.path()).read_text())
    assert found["hookscope"] == 1 and {each["rule"] for each in found["checked"]} >= {"preprocessing", "dead-channels"}
    export(page, tmp_path / "page.html")
    with browser.new_context(offline=True) as context:
        alone = context.new_page()
        alone.goto((tmp_path / "page.html").as_uri())
        assert "preprocessing" in (alone.locator(".findings-checked").first.text_content() or "")
    # the same by its address
    page.goto(address)
    expect(page.locator(".findings-checked").first).to_contain_text("preprocessing", timeout=PATIENCE_MS)


def test_a_check_up_is_stopped_and_comes_to_its_end_after_its_worker_was_killed(
    page: Page, application: Application, pid: Path
) -> None:
    open_page(page, f"{application.url}?model=slow")
    page.click("nav button:has-text('Findings')")
    state = page.locator("#findings-state")
    expect(state).to_contain_text("Checking …", timeout=PATIENCE_MS)
    expect(state).to_contain_text("training-mode")  # what it is at
    state.get_by_role("button", name="stop").click()
    expect(state).to_contain_text("Try again")
    state.get_by_role("button", name="Try again").click()
    expect(state).to_contain_text("Checking …")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    again = state.get_by_role("button", name="Try again")
    expect(state.locator("h2").or_(again)).to_be_visible(timeout=PATIENCE_MS)
    if again.is_visible():
        again.click()
    expect(state.locator("h2")).to_be_visible(timeout=PATIENCE_MS)
