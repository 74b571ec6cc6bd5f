"""Share links: a view under a key that nobody can guess, on disk for its owner alone."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from hookscope.dashboard.page.view import View
from hookscope.dashboard.web import shares as shares_module
from hookscope.dashboard.web.shares import Shares

VIEW = View().but(model="toy", a="a" * 22, layers=("conv", "", "fc"), target=3, overlay=True, detail="conv", channel=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "shares"


@pytest.fixture
def shares(folder: Path) -> Shares:
    return Shares(folder)


def test_a_shared_view_comes_back_also_after_a_restart(shares: Shares, folder: Path) -> None:
    key = shares.add(VIEW)
    assert shares.get(key) == VIEW
    assert Shares(folder).get(key) == VIEW


def test_keys_cannot_be_guessed(shares: Shares) -> None:
    keys = {shares.add(VIEW) for _ in range(50)}
    assert len(keys) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", key) for key in keys)  # 128 bits


def test_what_is_shared_can_be_read_by_its_owner_only(shares: Shares, folder: Path) -> None:
    before = os.umask(0)
    try:
        key = shares.add(VIEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / f"{key}.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "key",
    ["", "short", "../../../../etc/passwd", "x" * 65, "a" * 16 + "/b", "a" * 20 + "\n", "a" * 20 + "\0", "é" * 20],
)
def test_what_is_no_key_leads_nowhere(shares: Shares, key: str) -> None:
    assert shares.get(key) is None


def test_a_wrong_key_and_a_file_beside_the_folder_lead_nowhere(shares: Shares, folder: Path) -> None:
    (folder.parent / ("k" * 22 + ".json")).write_text("{}")
    assert shares.get("k" * 22) is None
    assert shares.get("-" * 22) is None


@pytest.mark.parametrize("text", [b"", b'{"model": ', b"\xff\xfe", b"[" * 5000, b"null", b"[1, 2]", b'{"layers": {}}'])
def test_a_damaged_share_is_none_or_an_empty_view(shares: Shares, folder: Path, text: bytes) -> None:
    key = shares.add(VIEW)
    (folder / f"{key}.json").write_bytes(text)
    assert shares.get(key) in (None, View())


def test_the_oldest_shares_go(shares: Shares, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares_module, "MAX_SHARES", 5)
    keys = []
    for n in range(8):
        keys.append(shares.add(VIEW))
        os.utime(folder / f"{keys[-1]}.json", (n, n))
    newest = shares.add(VIEW)
    assert [shares.get(key) is not None for key in keys] == [False] * 4 + [True] * 4
    assert shares.get(newest) == VIEW
