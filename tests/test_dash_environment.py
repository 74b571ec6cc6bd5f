"""No environment variable but Hookscope's own says how the page is served."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dash._configs import load_dash_env_vars
from inline_app import InlineApp
from served import ROOT

from hookscope.dashboard.web.dash_environment import hidden, is_foreign

# what a person may have set for another Dash application, or by mistake
VALUES = ("true", "1", "nonsense", "/elsewhere/", "http://127.0.0.1:1/", "")
KNOWN = sorted(name for name in load_dash_env_vars() if name.startswith("DASH_"))


def whole_page(folder: Path) -> tuple[str, dict[str, Any], str, bool]:
    """The page, Dash's configuration of it and its callbacks, as a browser gets them."""
    app = InlineApp(folder, url_prefix="/look/")
    try:
        page, callbacks = (app.client.get(f"/look/{path}") for path in ("", "_dash-dependencies"))
        assert page.status_code == callbacks.status_code == 200
        start, config, end = re.split(r'(?<=id="_dash-config" type="application/json">)(.*?)(?=</script>)', page.text)
        told = json.loads(config)
        told.pop("end_id", None)  # a new one for every server
        return start + end, sorted_lists(told), callbacks.text, app.dash.server.debug
    finally:
        app.close()


def sorted_lists(value: Any) -> Any:
    """The same with every list in order: Dash makes some of sets."""
    if isinstance(value, dict):
        return {name: sorted_lists(each) for name, each in value.items()}
    return sorted(map(sorted_lists, value), key=repr) if isinstance(value, list) else value


def test_dash_still_reads_what_is_tried_here() -> None:
    assert {"DASH_ROUTES_PATHNAME_PREFIX", "DASH_ASSETS_EXTERNAL_PATH", "DASH_APP_NAME"} <= set(KNOWN)
    assert len(KNOWN) > 20 and all(is_foreign(name) and is_foreign(name.lower()) for name in KNOWN)


@pytest.mark.parametrize("value", VALUES)
def test_variables_for_dash_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    plain = whole_page(tmp_path / "plain")
    for name in (*KNOWN, "DASH_PROXY", "FLASK_DEBUG", "HOST", "PORT"):
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.lower(), value)
    assert whole_page(tmp_path / "set") == plain
    assert os.environ["DASH_APP_NAME"] == value  # a model's own code finds them as they were


def test_a_fault_gives_the_variables_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASH_DEBUG", "1")
    with pytest.raises(ZeroDivisionError), hidden():
        assert "DASH_DEBUG" not in os.environ
        raise ZeroDivisionError
    assert os.environ["DASH_DEBUG"] == "1"


@pytest.mark.parametrize("folder", [ROOT, ROOT / "docs"], ids=["here", "elsewhere"])
def test_the_program_starts_whatever_python_and_dash_are_told(folder: Path, tmp_path: Path) -> None:
    """A sentence about the port shows that everything has been imported."""
    told = {"PYTHONSAFEPATH": "1", "REACT_VERSION": "nonsense", "PLOTLY_RENDERER": "nonsense", "DASH_COMPRESS": "true"}
    command = [sys.executable, str(ROOT / "app.py"), "--host", "192.0.2.1", "--cache-dir", str(tmp_path)]
    ran = subprocess.run(
        command, cwd=folder, env=os.environ | told, capture_output=True, text=True, timeout=120, check=False
    )
    assert "This computer has no address 192.0.2.1" in ran.stderr and "Traceback" not in ran.stderr
    assert ran.returncode == 2 and ran.stdout == ""
