"""`hs.show`: what a model does with one picture, in a notebook's cell.

    hs.show(model, image, layers=["layer4"])

An entry point outside the web side: it runs in the process that holds the model, and imports neither Dash nor Plotly
before `.open()` is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hookscope.dashboard.asking.texts import TITLE_LENGTH, one_line, say
from hookscope.dashboard.drawing.numbers import format_number, format_share
from hookscope.dashboard.notebook.given import NO_PILLOW, Prepare, Told, Values, as_input, read_values
from hookscope.dashboard.notebook.looked import Seen, look
from hookscope.dashboard.notebook.pages import close_page, open_browser, open_page
from hookscope.dashboard.notebook.walls import Look, NotShown, read_look
from hookscope.hooks.layers.names import Pattern
from hookscope.hooks.passes.traces import attributes_kept
from hookscope.hooks.results.looks import Activation

__all__ = ["NotShown", "Shown", "show"]


def show(
    model: nn.Module,
    image: Any,
    layers: Pattern | Iterable[Pattern] | None = None,
    *,
    prepare: Prepare | None = None,
    mean: Values = None,
    std: Values = None,
    classes: Sequence[str] = (),
    target: int | None = None,
    **view: Any,
) -> Shown:
    """Show what some layers of a model make of one picture.

    Every layer has a wall of its strongest channels after the mean over all of them, its numbers, a histogram, and
    Grad-CAM over the picture; layers that compute attention have their heads. The model is left as it was.

    Arguments:
        image: what the model is given, float (channel, height, width) or with an image axis of length 1; or a PIL
            image, an array of uint8 (height, width, 3 or 1), or a file's path, with `prepare` or `mean` and `std`.
        layers: which; see `hookscope.select`. None for the last layer of each size of maps, four at most.
        prepare: picture -> tensor, as the model was trained. mean, std: of pixels of 0..1, per channel or one for all;
            with a tensor, what it was normalised by, so that it is shown as it was. A photograph becomes grey for a
            model that takes one channel.
        classes: what the answer's classes are called. target: the class that Grad-CAM explains; None for the first.
        view: how walls are drawn: count ("auto", "64", "256", "all", or a number), rank ("strongest", "index", "mean",
            "variance", "zeros"), colours ("auto", "viridis", "magma", "grey"), scale ("layer", "channel").

    Raises:
        NotShown: the picture or a choice is none that can be shown. LayerNotFound: a pattern means nothing.
        ModelNotSupported: hooks cannot see into this kind of model.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> show(net.eval(), torch.zeros(3, 8, 8), ["1"]).seen.layers[0].activation.values.shape
    (4, 6, 6)
    """
    drawn = read_look(view)
    if not isinstance(model, nn.Module):
        raise NotShown(f"The model is a {type(model).__name__}, and a torch.nn.Module is needed.")
    shown_by = read_values(mean, std)
    with attributes_kept(model):
        tensor, said = as_input(model, image, prepare, *shown_by)
        seen = look(model, tensor, layers, classes=classes, target=target, shown_by=shown_by, said=said)
    return Shown(model, tensor, seen, drawn, shown_by)


class Shown:
    """What `show` found, as a notebook shows it: put it on the last line of a cell.

    `seen` holds the numbers: `seen.layers[0].activation.values`, `.statistics`, `.cam`.
    """

    def __init__(self, model: nn.Module, tensor: Tensor, seen: Seen, drawn: Look, shown_by: tuple[Told, Told]) -> None:
        self.seen = seen
        self._model, self._tensor, self._look, self._shown_by = model, tensor, drawn, shown_by

    def __repr__(self) -> str:
        try:
            lines = [f"{self.seen.model}, given {_sizes(self.seen.shape)}:"]
            for layer in self.seen.layers:
                found = layer.activation
                call = f", call {layer.call + 1} of {len(layer.info.calls)}" if len(layer.info.calls) > 1 else ""
                said = _told(found) if isinstance(found, Activation) else found
                lines.append(f"  {layer.title}{call}: {layer.info.type}, {said}")
                lines += [f"    Grad-CAM: {layer.cam}"] if isinstance(layer.cam, str) else []
            return "\n".join(lines)
        except Exception as error:  # a notebook shows nothing at all of what raises here
            return f"What was found cannot be written: {say(error)}."

    def _repr_html_(self) -> str:
        try:
            return self.to_html()
        except Exception as error:
            return f"<p>{escape(say(error))}</p><pre>{escape(repr(self))}</pre>"

    def to_html(self) -> str:
        """The cell's HTML, which needs nothing else.

        Raises:
            NotShown: Pillow is not installed.
        """
        try:
            from hookscope.dashboard.notebook.markup import render
        except ImportError as error:
            if error.name == "PIL":
                raise NotShown(NO_PILLOW) from None
            raise
        # a name may hold half of a character, which no file can
        return render(self.seen, self._look).encode("utf-8", "replace").decode("utf-8")

    def save(self, path: str | Path) -> Path:
        """Write it as one HTML file that opens anywhere, without a network.

        Raises:
            NotShown: it cannot be written there.
        """
        content = self.to_html()
        from hookscope.dashboard.notebook.markup import page

        try:
            place = Path(path)
            place.write_text(page(content, f"{self.seen.model} · hookscope"), encoding="utf-8")
        except OSError as error:
            raise NotShown(f"The file {str(path)!r} cannot be written ({error.strerror or error}).") from error
        except (TypeError, ValueError) as error:  # it is no text, or one with a character that no path has
            raise NotShown(f"A file's path is needed, and this is {one_line(repr(path), TITLE_LENGTH)}.") from error
        return place

    def open(self, *, browser: bool = True, port: int = 0) -> str:
        """Start the live page for this very model, in this process, and return its address.

        The page is open until `close`, or until the process ends, also where nobody keeps this view. A model has one
        page: another view of it leads there as well, and the tabs before go on. Where that one prepares pictures
        otherwise (another size, `mean`, `std` or `classes`), or should listen on another port, the new one takes its
        place, and old tabs say that Hookscope does not answer. Of a ninth model, the page opened first is closed.

        The address holds a secret, because others may work on this computer. Needs what
        `pip install 'hookscope[page]'` brings.

        Arguments:
            browser: open it in this computer's browser. port: to listen on, of this computer only; 0 for a free one. A
                page of this process that listens there is closed.

        Raises:
            NotShown: the page's packages are not installed, or the page cannot be opened; a sentence.
        """
        try:
            url = open_page(self._model, self._tensor, self.seen, self._look, self._shown_by, port)
        except ImportError as error:
            name = error.name or error
            raise NotShown(f"The page needs {name}, which is not installed: pip install 'hookscope[page]'.") from None
        if browser:
            open_browser(url)
        return url

    def close(self) -> None:
        """Close the model's live page, whichever view opened it, and all that it started."""
        close_page(self._model)


def _told(found: Activation) -> str:
    numbers = found.statistics
    broken = numbers.nan + numbers.inf
    text = f"{_sizes(found.shape)}, mean {format_number(numbers.mean)}, std {format_number(numbers.std)}"
    return f"{text}, zeros {format_share(numbers.zeros)}{f', {broken} not finite' if broken else ''}"


def _sizes(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"
