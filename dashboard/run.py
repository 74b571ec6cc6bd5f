"""Serving: the application, its engine and its stores, from the first line printed to the last process gone."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import sys
import threading
import webbrowser

import waitress
from waitress.server import BaseWSGIServer, MultiSocketServer

from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.feeds.store import Feeds
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.sets.store import SetStore
from hookscope.dashboard.sets.stored import Baselines
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.dashboard.settings.address import address, check_port, for_programs
from hookscope.dashboard.settings.checkpoints import Offered
from hookscope.dashboard.settings.models import options_for
from hookscope.dashboard.settings.table import Settings
from hookscope.dashboard.stopping import stopped_by_signals
from hookscope.dashboard.web.server import create_app
from hookscope.dashboard.web.shares import Shares

# Half-sent requests and silent readers may not keep others out: many threads, more connections, an early hang-up, and
# a look ahead on each connection, so that a closed tab is noticed while its stream is being written.
WAITRESS = {"threads": 64, "connection_limit": 1000, "channel_timeout": 20, "channel_request_lookahead": 1}
MEGABYTE = 1_000_000
OTHER_BODY_BYTES = MEGABYTE  # what a body may have beyond the largest picture, so that our own sentence refuses it

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; returns the process's exit code."""
    problem = check_port(settings.host, settings.port)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    _give_memory_back()
    # waitress waits for its threads when a signal comes, so the streams and workers have to end before that.
    with contextlib.ExitStack() as stack, stopped_by_signals() as stop:
        try:
            with stop.undisturbed():
                inputs = _inputs(settings)
                stack.callback(inputs.close)
                cache = Cache(settings.cache_dir / "answers", settings.cache_limit_mb * MEGABYTE)
                stack.callback(cache.close)
        except OSError as error:
            print(
                f"The folder {settings.cache_dir} cannot be used ({error.strerror}): name another with --cache-dir.",
                file=sys.stderr,
            )
            return 2
        offered = Offered(settings)
        engine = _engine(settings, offered)
        stack.callback(engine.close)
        room = settings.sets_limit_mb * MEGABYTE
        sets = SetStore(settings.cache_dir / "sets", dict(settings.images), inputs, limit_bytes=room)
        stack.callback(sets.close)
        sweeps = Sweeps(engine, sets, settings.cache_dir / "sets" / "found", Baselines(dict(settings.baseline)))
        stack.callback(sweeps.close)
        feeds = Feeds(dict(settings.feeds), offered.openable)
        service = Service(engine, cache, inputs, settings.max_streams, sweeps=sweeps, feeds=feeds)
        stack.callback(service.close)
        stop += [service.close, sweeps.close, engine.close]
        app = create_app(settings, service, Shares(settings.cache_dir / "shares"), offered)
        engine.open(settings.names[0])
        # waitress keeps a whole body on disk before anybody sees it, a gigabyte by default.
        largest = settings.max_upload_mb * MEGABYTE + OTHER_BODY_BYTES
        server = waitress.create_server(
            app.server, host=settings.host, port=settings.port, max_request_body_size=largest, **WAITRESS
        )
        stack.callback(server.close)
        stack.callback(logging.getLogger("waitress").addFilter, _says_more_than_closed)
        where = address(settings, _port_of(server))
        print(f"Hookscope is open at {where}\nStop it with Ctrl+C.", flush=True)
        print(for_programs(where), flush=True)
        for name, folder in settings.images:
            print(f"Whoever may open the page may see the pictures in {folder}, as the set {name}.", flush=True)
        for name, folder in settings.feeds:
            print(f"Whoever may open the page may see the training in {folder}, as the run {name}.", flush=True)
        if settings.open_browser:
            threading.Timer(0.5, webbrowser.open, [where]).start()
        with contextlib.suppress(SystemExit):
            server.run()
    return 0


def _inputs(settings: Settings) -> InputStore:
    return InputStore(
        settings.cache_dir / "inputs",
        settings.inputs_limit_mb * MEGABYTE,
        max_upload_bytes=settings.max_upload_mb * MEGABYTE,
    )


def _says_more_than_closed(record: logging.LogRecord) -> bool:
    """Whether what waitress has to say, once the server is being closed, is more than that a socket is closed.

    A thread that comes to the end of its answer wakes the server by a file that may be closed by then.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, OSError) and error.errno == errno.EBADF)


def _give_memory_back() -> None:
    """Have what large arrays took returned to the system as soon as they are freed.

    glibc keeps an arena per thread and learns to serve large blocks from them; with 64 threads that each decode and
    draw arrays of some megabytes, the server would hold many times what it uses. Elsewhere there is nothing to set.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for parameter, value in ((M_ARENA_MAX, 2), (M_MMAP_THRESHOLD, 1 << 17), (M_TRIM_THRESHOLD, 1 << 20)):
        mallopt(parameter, value)


def _engine(settings: Settings, offered: Offered) -> LocalEngine:
    return LocalEngine(
        options_for(settings),
        workers=settings.workers,
        device=settings.device,
        threads=settings.threads,
        job_timeout_seconds=settings.job_timeout_seconds,
        load_timeout_seconds=settings.load_timeout_seconds,
        models_limit_bytes=settings.models_limit_mb * MEGABYTE,
        later=offered.options,
    )


def _port_of(server: MultiSocketServer | BaseWSGIServer) -> int:
    if isinstance(server, MultiSocketServer):
        return int(server.effective_listen[0][1])
    return int(server.effective_port)
