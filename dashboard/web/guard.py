"""Who may talk to the server: the Host, Origin and token checks, and the security headers of every answer.

`install` puts the checks on a Flask server that is passed in, before any other hook. They answer these attacks:

- a hostile page whose name is made to point at this computer (DNS rebinding): its Host is not one of ours, 400
- a hostile page that posts to us, or asks in its background for streams and pictures (cross-site request forgery): it
  is not our page, 403
- a stranger on the network: has no token, in a cookie, the address or an Authorization header, 401
- HTML that got into the page: the content policy runs no script but our own
"""

from __future__ import annotations

import hmac
import re
import socket
from collections.abc import Callable, Collection, Sequence
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import flask

from hookscope.dashboard.settings.table import Settings
from hookscope.dashboard.settings.values import is_ip, is_loopback

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
COOKIE_DAYS = 30

# A browser does not send a SameSite=Strict cookie with a page that a link on another site opened. This page asks for
# itself once more, and that second visit comes from our own site.
VISIT_AGAIN = "<!doctype html><title>Hookscope</title><meta http-equiv='refresh' content='0'><p>Opening Hookscope.</p>"


WRONG_BEARER = (
    "The token in the Authorization header is not this server's. Give the one behind ?token= in the address that "
    "Hookscope printed when it started."
)


def install(
    server: flask.Flask,
    settings: Settings,
    *,
    script_hashes: Callable[[], Sequence[str]] = tuple,
    open_paths: Collection[str] = ("/healthz",),
) -> None:
    """Put the checks and headers on a server.

    Arguments:
        settings: host, allowed_hosts and token are read; an empty token lets everyone in who passes the other checks.
        script_hashes: gives the content policy's hashes of inline scripts, `Dash.csp_hashes`; asked at the first
            answer, when all callbacks are there.
        open_paths: paths that need no token, because a health check knows none.
    """
    names = own_names(settings)
    token = settings.token
    policy: list[str] = []

    def check_host() -> flask.Response | None:
        name = host_name(flask.request.headers.get("Host", ""))
        if name in names or (not is_loopback(settings.host) and is_ip(name)):
            # An address cannot be rebound, only a name can: who listens to the network may be asked by any address.
            return None
        shown = f"'{name}'" if name else "no readable name"
        hint = f" If that name is right, start Hookscope with --allowed-host {name}." if name else ""
        return refusal(400, f"This server was asked for as {shown}, and that is not one of its names.{hint}")

    def check_origin() -> flask.Response | None:
        if from_own_page(flask.request):
            return None
        return refusal(403, "Another site's page asked for this, so it was refused. Open Hookscope's own address.")

    def check_token() -> flask.Response | None:
        request = flask.request
        if not token or request.path in open_paths:
            return None
        shown = request.args.get("token")
        if shown is not None and _same(shown, token):
            return _welcome(request, token) if request.method in SAFE_METHODS else None
        if _same(request.cookies.get(cookie_name(request), ""), token):
            return None
        bearer = bearer_of(request)  # of a program: no page can make a browser send it to us
        if bearer is not None:
            return None if _same(bearer, token) else refusal(401, WRONG_BEARER)
        if shown is None and request.method == "GET" and _opened_by_another_site(request):
            return flask.Response(VISIT_AGAIN, mimetype="text/html")
        wrong = (
            "The token in the address is not this server's." if shown is not None else "This server asks for a token."
        )
        return refusal(401, f"{wrong} Open the address that Hookscope printed when it started, with ?token= in it.")

    def add_headers(response: flask.Response) -> flask.Response:
        if not policy:
            policy.append(content_policy(script_hashes()))
        response.headers["Content-Security-Policy"] = policy[0]
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        return response

    server.before_request(check_host)
    server.before_request(check_origin)
    server.before_request(check_token)
    server.after_request(add_headers)


def own_names(settings: Settings) -> frozenset[str]:
    """The host names under which this server answers, lower case and without port."""
    names = {"localhost", "127.0.0.1", "::1", settings.host, *settings.allowed_hosts}
    if not is_loopback(settings.host):
        full = socket.gethostname().lower()
        short = full.split(".")[0]
        names |= {full, short, f"{short}.local"}
    return frozenset(names - {""})


def host_name(header: str) -> str:
    """The name in a Host header, lower case, without port and brackets; "" if the header is not one name and a port."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?", header)
    return (found[1] or found[2]).lower().rstrip(".") if found else ""


def from_own_page(request: flask.Request) -> bool:
    """Whether a request comes from our own page, from no browser at all, or is a person following a link to us.

    `Sec-Fetch-Site` is written by the browser and out of a page's reach, but it is sent to secure addresses and
    localhost only; elsewhere `Origin`, which comes with everything that may change something, has to name the Host that
    was asked. A program that is no browser sends neither, and no hostile page can send as such a program.
    """
    headers = request.headers
    if (site := headers.get("Sec-Fetch-Site")) is not None:
        link = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
        return site in ("same-origin", "none") or (link and request.method in SAFE_METHODS)
    origin = headers.get("Origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("Host", "").lower()


def content_policy(script_hashes: Sequence[str]) -> str:
    """The Content-Security-Policy: our own scripts and nothing from outside.

    Styles may stand inline because Plotly and the components write style attributes; a style runs no code.
    """
    scripts = " ".join(["'self'", *script_hashes])
    return (
        f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def cookie_name(request: flask.Request) -> str:
    """The token's cookie for the address in the browser: cookies do not tell ports apart, so the name has to.

    The browser's port counts and not ours, because two containers or tunnels may both listen on 8050 inside.
    """
    port = re.search(r":([0-9]+)$", request.headers.get("Host", ""))
    return f"hookscope-{port[1] if port else 'default'}"


def bearer_of(request: flask.Request) -> str | None:
    """The token of an `Authorization: Bearer TOKEN` header; None without such a header."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def refusal(status: int, sentence: str) -> flask.Response:
    """An answer that says why there is no other."""
    return flask.Response(sentence + "\n", status, mimetype="text/plain")


def _same(shown: str, token: str) -> bool:
    return hmac.compare_digest(shown.encode(), token.encode())  # constant time; as bytes, because str must be ASCII


def _welcome(request: flask.Request, token: str) -> flask.Response:
    """Keep the token in a cookie and go on to the same address without it, so that it stays out of history and links.

    The new address is relative ("./last-part?rest"): right behind any proxy, and never another site.
    """
    rest = urlencode([(key, value) for key, value in parse_qsl(_query(request), True) if key != "token"])
    last_part = quote(request.path.rsplit("/", 1)[-1], safe="")
    response = flask.Response(status=303)
    response.headers["Location"] = f"./{last_part}" + (f"?{rest}" if rest else "")
    response.set_cookie(
        cookie_name(request), token, max_age=COOKIE_DAYS * 86_400, path="/", httponly=True, samesite="Strict"
    )
    return response


def _query(request: flask.Request) -> str:
    return request.query_string.decode("utf-8", "replace")


def _opened_by_another_site(request: flask.Request) -> bool:
    headers = request.headers
    return headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and headers.get("Sec-Fetch-Mode") == "navigate"
