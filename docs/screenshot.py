"""Makes the README's picture: starts the real application, compares two samples, and photographs the page.

python docs/screenshot.py        (or: make screenshot)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from find_chromium import find_chromium  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402
from served import Application, images, open_page, until  # noqa: E402

VIEW = "?a=sample-coffee&b=sample-chelsea&layer=blocks.1.1.bn3&layer=blocks.4.2.bn2&rank=difference"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Write docs/screenshot.png."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        application = Application(Path(folder))
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        open_page(page, application.url + VIEW)
        until(lambda: all(images(page, "wall", card) == 3 and images(page, "cam", card) == 4 for card in (0, 1)))
        page.wait_for_timeout(500)
        page.screenshot(path=str(ROOT / "docs" / "screenshot.png"))
        browser.close()
        application.stop()


if __name__ == "__main__":
    main()
