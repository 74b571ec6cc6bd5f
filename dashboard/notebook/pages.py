"""The live pages of this process: one for each model, open until somebody closes it, whoever still holds the view.

A notebook drops the view of `hs.show(model, image).open()` with the cell, and the tab that it opened stays.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import warnings
import webbrowser
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hookscope.dashboard.notebook.given import Told
from hookscope.dashboard.notebook.looked import Seen
from hookscope.dashboard.notebook.walls import Look, NotShown
from hookscope.hooks.passes.modes import unwrap

if TYPE_CHECKING:
    from hookscope.dashboard.notebook.live import LivePage

MOST = 8  # pages: a cell that makes its model anew and is run again would else keep all of them
LAST_PORT = 65535

_pages: list[LivePage] = []  # the oldest first
_guard = threading.RLock()
_calls: list[int] = []  # Python's limit of nested calls: before the first of them was opened, and after the last


def open_page(
    model: nn.Module, tensor: Tensor, seen: Seen, look: Look, shown_by: tuple[Told, Told], port: Any = 0
) -> str:
    """The address at which a model's page shows a view; see `live.LivePage` for the arguments.

    A page that is there already goes on if it prepares pictures as this view does, and listens where it should;
    another one of the same model, or on the same port, is closed for it, and so is the oldest of more than `MOST`.

    Raises:
        NotShown: a sentence.
    """
    port = read_port(port)
    with _guard:
        live = _imported()
        wanted = live.settings_of(seen, *shown_by)
        inner = unwrap(model)
        mine = [page for page in _pages if page.inner is inner]
        for page in mine:
            if page.serves(wanted, port):
                return page.address_of(tensor, seen, look, shown_by)
        in_the_way = [page for page in _pages if page in mine or (port and page.port == port)]
        live.check(model, seen, port, frozenset(page.port for page in in_the_way))
        for page in in_the_way or _pages[: max(len(_pages) + 1 - MOST, 0)]:
            _close(page)
        before = sys.getrecursionlimit()
        try:
            page = live.LivePage(model, seen, shown_by, port)
            _pages.append(page)
            return page.address_of(tensor, seen, look, shown_by)
        except BaseException:
            close_page(model)
            raise
        finally:
            _calls[:] = [*(_calls[:1] or [before]), sys.getrecursionlimit()]
            _end_if_none()


def close_page(model: nn.Module) -> None:
    """Close a model's page, if it has one, and all that it started; the model is nobody's then but the person's."""
    with _guard:
        for page in [page for page in _pages if page.inner is unwrap(model)]:
            _close(page)


def close_all() -> None:
    """Close every page of this process."""
    with _guard:
        for page in list(_pages):
            _close(page)


def open_browser(url: str) -> None:
    """Open the address in this computer's browser, beside whatever runs here; where there is none nothing happens."""
    threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()


def read_port(port: Any) -> int:
    """A port's number; 0 for a free one.

    Raises:
        NotShown: it is none.
    """
    try:
        number = -1 if isinstance(port, bool) else port.__index__()
    except AttributeError:
        number = -1
    if not 0 <= number <= LAST_PORT:
        raise NotShown(f"port= is {port!r}. Give a whole number from 1 to {LAST_PORT}, or 0 for a free port.")
    return int(number)


def _imported() -> Any:
    """The module that imports Dash, without the filters of warnings that its libraries add as they are imported."""
    with warnings.catch_warnings():
        from plotly.graph_objects import Figure

        from hookscope.dashboard.notebook import live

        Figure()  # it imports the last of its parts as late as that
    return live


def _close(page: LivePage) -> None:
    _pages.remove(page)
    try:
        page.close()
    finally:
        _end_if_none()


def _end_if_none() -> None:
    """Have Python nest its calls as before, see `sources.load.make_room`, unless somebody else has set it since."""
    if not _pages and _calls:
        if sys.getrecursionlimit() == _calls[-1]:
            sys.setrecursionlimit(_calls[0])
        _calls.clear()


def _end(process: int) -> None:
    if os.getpid() == process:  # and no process that was forked from it, which has none of their threads
        close_all()


atexit.register(_end, os.getpid())
