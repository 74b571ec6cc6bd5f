"""What can be asked of a set: each a page of the tab "Pictures"; one more is one module, and a name in `tab`'s list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.panels.regions import show_text
from hookscope.hooks.methods import Rows

if TYPE_CHECKING:
    from hookscope.dashboard.panels.pictures.looked import Looked  # whose state names one of the pages


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        name: in the address; "" of the first. title, help: for people.
        layout: draws it, empty. parts: fills its regions.
        there: whether it is offered of this set in this model.
    """

    name: str
    title: str
    help: str
    layout: Callable[[], Any]
    parts: Callable[[Looked], list[Part]]
    there: Callable[[Looked], bool] = lambda looked: True


PAGES: Rows[Page] = Rows()


def region(name: str, of: str, children: Sequence[Any]) -> Part:
    """A part that needs no answer of the model; the region is hidden where nothing stands in it."""
    return Part.still(name, [show_text(of, list(children), hidden=not children)])
