"""The guard, met by the requests of a hostile page, of a stranger, and of everyone who should get in."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flask
import pytest
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from hookscope.dashboard.settings.table import Settings
from hookscope.dashboard.web.guard import content_policy, host_name, install, own_names

if TYPE_CHECKING:
    from conftest import Watch
    from playwright.sync_api import Page

TOKEN = "a-token-of-the-operators"


def guarded(**settings: Any) -> flask.Flask:
    """A small server that the guard watches."""
    server = flask.Flask("guarded")

    @server.route("/", methods=["GET", "POST"])
    @server.route("/x/", methods=["GET", "POST"])
    @server.route("/share/<name>", methods=["GET"])
    def answer(name: str = "") -> str:
        return f"hello {name}"

    @server.route("/kept")
    def kept() -> flask.Response:
        return flask.Response("kept", headers={"Cache-Control": "private, immutable"})

    @server.route("/healthz")
    def healthz() -> str:
        return "ok"

    @server.route("/broken")
    def broken() -> str:
        raise ValueError("broken on purpose")

    install(server, Settings(cache_dir=Path("unused"), **settings), script_hashes=lambda: ["'sha256-abc='"])

    @server.route("/page")
    def page() -> str:
        return "<!doctype html><title>page</title><script>document.title = 'ran'</script><p>shown</p>"

    return server


def client(**settings: Any) -> FlaskClient:
    """A browser without cookies before the small server."""
    return guarded(**settings).test_client(use_cookies=False)


def get(browser: FlaskClient, path: str = "/", host: str = "localhost:8050", **headers: str) -> Any:
    return browser.get(path, headers={"Host": host, **{name.replace("_", "-"): text for name, text in headers.items()}})


def post(browser: FlaskClient, path: str = "/", host: str = "localhost:8050", **headers: str) -> Any:
    return browser.post(
        path, headers={"Host": host, **{name.replace("_", "-"): text for name, text in headers.items()}}
    )


# Host


@pytest.mark.parametrize("host", ["localhost:8050", "127.0.0.1:8050", "[::1]:8050", "LOCALHOST", "localhost.:9000"])
def test_loopback_names_are_ours_whatever_the_port(host: str) -> None:
    assert get(client(), host=host).status_code == 200  # a tunnel or a container may have another port outside


@pytest.mark.parametrize(
    "host", ["evil.example:8050", "localhost.evil.example", "10.0.0.5:8050", "", "a b", "localhost:8050@evil", "[::1"]
)
def test_a_rebinding_host_gets_400_and_a_sentence(host: str) -> None:
    answer = get(client(), host=host)
    assert answer.status_code == 400 and "not one of its names" in answer.text
    assert get(client(), "/healthz", host=host).status_code == 400


def test_the_sentence_says_how_to_allow_a_name() -> None:
    assert "--allowed-host look.example.org" in get(client(), host="look.example.org").text
    assert get(client(allowed_hosts=("look.example.org",)), host="Look.example.org:443").status_code == 200


def test_a_listener_on_the_network_answers_to_addresses_and_its_own_name_but_not_to_foreign_names() -> None:
    browser = client(host="0.0.0.0", behind_auth_proxy=True)
    for host in ("192.168.1.5:8050", "[2001:db8::1]:8050", socket.gethostname(), "localhost:9000"):
        assert get(browser, host=host).status_code == 200, host
    assert get(browser, host="evil.example:8050").status_code == 400
    assert get(client(host="gpu-box", behind_auth_proxy=True), host="gpu-box:8050").status_code == 200


def test_host_headers_are_read_as_a_browser_writes_them() -> None:
    assert host_name("[2001:DB8::1]:80") == "2001:db8::1"
    assert host_name("a.b.") == "a.b"
    assert host_name("a:b") == host_name("a/b") == host_name("a,b") == ""
    assert "" not in own_names(Settings(cache_dir=Path("unused")))


# Origin


def test_our_own_page_may_post() -> None:
    assert post(client(), Origin="http://localhost:8050").status_code == 200
    assert post(client(), Sec_Fetch_Site="same-origin", Origin="http://localhost:8050").status_code == 200
    assert post(client()).status_code == 200  # a program, not a browser
    behind_tls = client(allowed_hosts=("look.example.org",))
    assert post(behind_tls, host="look.example.org", Origin="https://look.example.org").status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://localhost:9999", "null", "http://127.0.0.1:8050", ""]
)
def test_another_origin_may_not_post(origin: str) -> None:
    answer = post(client(), Origin=origin)
    assert answer.status_code == 403 and "refused" in answer.text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])  # another port of localhost is the same site
def test_another_sites_page_gets_nothing_in_the_background(site: str) -> None:
    assert post(client(), Sec_Fetch_Site=site, Origin="http://localhost:8050").status_code == 403
    for mode, dest in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")):
        assert get(client(), Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=dest).status_code == 403
    posted = post(client(), Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
    assert posted.status_code == 403


def test_a_link_on_another_site_may_be_followed() -> None:
    answer = get(client(), Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
    assert answer.status_code == 200


# Token


def exposed() -> FlaskClient:
    return client(host="0.0.0.0", token=TOKEN)


def test_a_stranger_is_told_where_the_token_is() -> None:
    answer = get(exposed())
    assert answer.status_code == 401 and "asks for a token" in answer.text and TOKEN not in answer.text
    assert get(exposed(), "/no-such-page").status_code == 401  # what is there is nobody's business either
    assert post(exposed()).status_code == 401
    wrong = get(exposed(), f"/?token={TOKEN}x")
    assert wrong.status_code == 401 and "is not this server's" in wrong.text
    assert get(exposed(), "/?token=é").status_code == 401


def test_the_token_is_shown_once_and_then_a_cookie_is_enough() -> None:
    browser = exposed()
    answer = get(browser, f"/share/b%20c?token={TOKEN}&layers=a.0&layers=%C3%A9", host="localhost:9000")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "./b%20c?layers=a.0&layers=%C3%A9"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"hookscope-9000={TOKEN};") and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert answer.headers["Cache-Control"] == "no-store" and answer.headers["Referrer-Policy"] == "no-referrer"

    def with_cookie(port: int) -> Any:
        return get(exposed(), host=f"localhost:{port}", Cookie=cookie.split(";")[0])

    assert with_cookie(9000).status_code == 200
    assert with_cookie(9001).status_code == 401  # another server's cookie: cookies ignore ports, the name does not


def test_the_address_without_token_keeps_the_prefix_and_never_leaves_the_site() -> None:
    assert get(exposed(), f"/x/?token={TOKEN}").headers["Location"] == "./"
    for path in ("//evil.example/", "//evil.example", "/\\evil.example", "/javascript:alert(1)"):
        location = get(exposed(), f"{path}?token={TOKEN}").headers["Location"]
        assert location.startswith("./") and "//" not in location[2:] and "\\" not in location


def test_a_program_may_post_with_the_token_in_the_address() -> None:
    assert post(exposed(), f"/?token={TOKEN}").status_code == 200


def test_a_visitor_from_another_site_is_sent_round_once_so_that_the_cookie_comes_along() -> None:
    answer = get(exposed(), Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
    assert answer.status_code == 200 and "http-equiv='refresh'" in answer.text and "hello" not in answer.text
    again = get(exposed(), Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
    assert again.status_code == 401  # no cookie at all: told so, and not sent round for ever


def test_a_health_check_needs_no_token() -> None:
    assert get(exposed(), "/healthz").text == "ok"


# Headers


@pytest.mark.parametrize("path", ["/", "/no-such-page", "/broken", "/healthz"])
def test_every_answer_has_the_headers(path: str) -> None:
    headers = get(client(), path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"] == content_policy(["'sha256-abc='"])


def test_refusals_have_the_headers_too() -> None:
    assert "frame-ancestors 'none'" in get(client(), host="evil.example").headers["Content-Security-Policy"]


def test_an_answer_that_may_be_kept_says_so_itself() -> None:
    assert get(client(), "/kept").headers["Cache-Control"] == "private, immutable"


def test_the_policy_runs_our_scripts_only() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in content_policy(["'sha256-abc='"]).split(";"))
    assert rules["default-src"] == "'self'"
    assert rules["script-src"] == "'self' 'sha256-abc='"
    assert rules["object-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert "unsafe-eval" not in content_policy([]) and rules["img-src"] == "'self' data: blob:"


# The same with a real browser


@pytest.fixture
def port() -> Iterator[int]:
    """The port of the small server, really listening, with a token."""
    server = make_server("127.0.0.1", 0, guarded(token=TOKEN), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.browser
def test_a_browser_shows_the_token_once_and_runs_no_inline_script(page: Page, watch: Watch, port: int) -> None:
    watch.expect("401")
    stranger = page.goto(f"http://localhost:{port}/page")
    assert stranger is not None and stranger.status == 401
    watch.expect("Content Security Policy")
    page.goto(f"http://localhost:{port}/page?token={TOKEN}&layers=a")
    assert page.url == f"http://localhost:{port}/page?layers=a"
    assert page.inner_text("p") == "shown" and page.title() == "page"
    assert page.evaluate("document.cookie") == ""  # out of every script's reach
    assert page.evaluate("fetch('/', {method: 'POST'}).then(answer => answer.status)") == 200


@pytest.mark.browser
def test_a_link_on_another_site_opens_the_page_and_that_sites_scripts_get_nothing(
    page: Page, watch: Watch, port: int
) -> None:
    page.goto(f"http://localhost:{port}/page?token={TOKEN}")
    other = make_server("127.0.0.1", 0, flask.Flask("other"), threaded=True)
    thread = threading.Thread(target=other.serve_forever)
    thread.start()
    try:
        watch.expect("")  # the other site's page is not found, and what it tries is refused: the console says so
        page.goto(f"http://127.0.0.1:{other.server_port}/")  # another site than localhost
        posted = f"fetch('http://localhost:{port}/', {{method: 'POST', mode: 'no-cors', credentials: 'include'}})"
        assert page.evaluate(f"{posted}.then(answer => answer.type, error => 'refused')") in ("opaque", "refused")
        read = f"fetch('http://localhost:{port}/', {{credentials: 'include'}})"
        assert page.evaluate(f"{read}.then(answer => answer.text(), error => 'refused')") == "refused"
        page.evaluate(f"location.href = 'http://localhost:{port}/page?layers=b'")
        page.wait_for_selector("text=shown")
        assert page.url == f"http://localhost:{port}/page?layers=b"
    finally:
        other.shutdown()
        thread.join()
        other.server_close()
