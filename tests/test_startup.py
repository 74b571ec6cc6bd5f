"""The start: real ports taken and free, and the address that is printed."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from hookscope.dashboard.places import ASSETS
from hookscope.dashboard.settings.address import address, check_port
from hookscope.dashboard.settings.parse import parse


def test_a_taken_port_is_said_with_a_free_one_nearby() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = check_port("127.0.0.1", port)
        found = re.fullmatch(rf"Port {port} is taken: start with --port (\d+)\.", sentence)
        assert found, sentence
        assert check_port("127.0.0.1", int(found[1])) == ""
        assert "is taken" in check_port("0.0.0.0", port)
        assert "is taken" in check_port("localhost", port)
    assert check_port("127.0.0.1", port) == ""


def test_any_free_port_needs_no_check() -> None:
    assert check_port("127.0.0.1", 0) == ""


def test_an_address_of_another_computer_is_said() -> None:
    for host in ("192.0.2.1", "no-such-name.invalid"):  # both reserved for documentation and tests
        assert f"no address {host}" in check_port(host, 8050)


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ([], "http://127.0.0.1:8050/"),
        (["--host", "localhost", "--port", "9"], "http://localhost:9/"),
        (["--host", "::1"], "http://[::1]:8050/"),
        (["--url-prefix", "x"], "http://127.0.0.1:8050/x/"),
        (["--host", "0.0.0.0", "--token", "t" * 20], "http://127.0.0.1:8050/?token=" + "t" * 20),
        (["--host", "::", "--behind-auth-proxy"], "http://[::1]:8050/"),
        (["--host", "10.1.2.3", "--url-prefix", "x", "--token", "t" * 20], "http://10.1.2.3:8050/x/?token=" + "t" * 20),
    ],
)
def test_the_printed_address_is_whole(argv: list[str], wanted: str) -> None:
    assert address(parse(argv, {})) == wanted


def test_the_printed_address_has_the_port_that_was_found() -> None:
    assert address(parse(["--port", "0"], {}), 40123) == "http://127.0.0.1:40123/"


def test_the_assets_are_the_top_levels() -> None:
    assert ASSETS.samefile(Path(__file__).parent.parent / "assets")
