"""Makes the README's pictures: starts the real application, compares two pictures, and photographs the page.

python docs/screenshot.py        (or: make screenshot)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from find_chromium import find_chromium  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402
from served import Application, images, open_page, until  # noqa: E402

VIEW = "?a=sample-coffee&b=sample-chelsea&layer=blocks.1.1.bn3&layer=blocks.4.2.bn2&rank=difference"
PARTED = "?a=sample-rocket&b=sample-rocket&prepare_b=box.grey.265.106.331.172&tab=depth&depth=apart&metric=apart"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Write docs/screenshot.png, and docs/parting.png."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        application = Application(Path(folder))
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        open_page(page, application.url + VIEW)
        until(lambda: all(images(page, "wall", card) == 3 and images(page, "cam", card) == 4 for card in (0, 1)))
        photograph(page, "screenshot.png")
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        open_page(page, application.url + PARTED)
        until(lambda: "(18 pairs" in page.locator("#gradients-text").inner_text(), 300)
        until(lambda: page.locator("#worker-text").inner_text() == "Ready.")
        photograph(page, "parting.png")
        browser.close()
        application.stop()


def photograph(page: Page, name: str) -> None:
    """Write what the window shows into docs/, once everything has been drawn."""
    page.wait_for_timeout(500)
    page.screenshot(path=str(ROOT / "docs" / name))


if __name__ == "__main__":
    main()
