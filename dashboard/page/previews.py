"""Small copies of the inputs, which are there before any model is."""

from __future__ import annotations

from functools import partial

from hookscope.dashboard.asking.sides import OWN_WAY
from hookscope.dashboard.inputs import colours, fills, rows
from hookscope.dashboard.inputs.store import Input, InputStore
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.view import View


def preview(store: InputStore, gallery: Gallery, given: Input, three: colours.Three, painting: str = OWN_WAY) -> str:
    """The address of a small copy of an input, which is there before the model is.

    Arguments:
        three: which of its channels are seen. painting: what is painted on it.
    """
    if given.axes != "channels-first" and three == colours.usual(given.channels) and painting == OWN_WAY:
        return gallery.add(("preview", given.key), partial(store.preview, given.key), "image/jpeg")
    shows = ("preview", given.key, given.axes, three, painting)
    return gallery.add(shows, partial(_preview, store, given, three, painting), "image/jpeg")


def _preview(store: InputStore, given: Input, three: colours.Three, painting: str) -> bytes:
    data = store.pixels(given.digest)
    exact = rows.exact(data)
    if exact is None and painting == OWN_WAY:
        return store.preview(given.key)
    if exact is not None and given.axes == "channels-first":
        exact = exact.turned()
    return fills.preview(rows.picture(data), exact, three, painting)


def shown(view: View, side: str, given: Input) -> colours.Three:
    """Which channels of a picture are seen as red, green and blue on a side."""
    return colours.read(getattr(view, f"shown_{side}"), given.channels)


def find(inputs: InputStore, key: str) -> Input | None:
    """The input of a key, None for no key or one that is gone."""
    return inputs.get(key) if key else None
