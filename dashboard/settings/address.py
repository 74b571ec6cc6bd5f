"""What is said and checked around the start: whether the port is free, and the address to open."""

from __future__ import annotations

import errno
import socket

from hookscope.dashboard.settings.table import Settings

NEIGHBOURS = 20  # how many ports after the taken one are tried for a suggestion


def check_port(host: str, port: int) -> str:
    """Say why a port cannot be listened on, with a free one nearby; "" if it can, or if any port will do (0)."""
    problem = _problem(host, port)
    if problem is None:
        return ""
    if isinstance(problem, socket.gaierror) or problem.errno == errno.EADDRNOTAVAIL:
        return f"This computer has no address {host}: give --host one of its own, 127.0.0.1 or 0.0.0.0."
    if problem.errno in (errno.EADDRINUSE, errno.EACCES):
        reason = "is taken" if problem.errno == errno.EADDRINUSE else "is reserved for the administrator"
        near = port if port >= 1024 else 8049
        free = next((n for n in range(near + 1, min(near + NEIGHBOURS, 65535) + 1) if _problem(host, n) is None), 0)
        return f"Port {port} {reason}: start with --port {free}" + (" for any free one." if free == 0 else ".")
    return f"Cannot listen on {host} port {port}: {problem.strerror or problem}. Give another --host or --port."


def address(settings: Settings, port: int | None = None) -> str:
    """The whole address to open, token included.

    Arguments:
        port: the port that is really listened on, where the settings say 0.
    """
    # 0.0.0.0 means "every address" and is not one that a browser can be sent to
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    query = f"?token={settings.token}" if settings.token else ""
    return f"http://{host}:{settings.port if port is None else port}{settings.url_prefix}{query}"


def for_programs(where: str) -> str:
    """The line that tells programs where to ask, and over MCP by which command.

    Arguments:
        where: the whole address, as `address` has it; a token stays out of the command, which others may see run.
    """
    base, _, token = where.partition("?")
    first = f"HOOKSCOPE_TOKEN={token.removeprefix('token=')} " if token else ""
    return f"Programs ask at {base}api/v1/, or over MCP: {first}python -m hookscope mcp --url {base}"


def _problem(host: str, port: int) -> OSError | None:
    """What stands against listening there, found out by doing it for a moment."""
    problems: list[OSError] = []
    works = False
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return error
    for family, kind, protocol, _, place in found:  # "localhost" is two addresses, IPv4 and IPv6
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As the server does it: a port whose last connections are only waiting to be forgotten is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
                probe.listen(1)
            works = True
        except OSError as error:
            problems.append(error)
    decisive = [error for error in problems if not works or error.errno in (errno.EADDRINUSE, errno.EACCES)]
    return decisive[0] if decisive else None
