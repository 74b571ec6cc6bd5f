"""What of a picture one unit of a layer sees, cut out of the picture by the style sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dash import html

from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.hooks.results.receptive import ReceptiveField
from hookscope.hooks.results.sweeps import NOWHERE, Sweep

LEAST = 0.12  # of the picture: what is smaller is shown with what lies around it, and framed


@dataclass(frozen=True)
class Crops:
    """Cells with crops of a set's pictures.

    Attributes:
        field: where the layer's units look; None if that is not known.
    """

    looked: Looked
    found: Sweep
    field: ReceptiveField | None

    def cell(self, number: int, value: float, spot: Sequence[int]) -> html.Button:
        """A picture's crop around a place of the layer's map.

        Arguments:
            number: the picture's. value: the channel's there. spot: row and column; -1 for nowhere.
        """
        asked = {"set": self.looked.pictures.key, "model": self.looked.model, "number": number, "stay": True}
        action = {"data-do": "open-member", "data-value": json.dumps(asked)}
        return self.button(number, value, spot, action)

    def button(
        self,
        number: int,
        value: float,
        spot: Sequence[int],
        action: Mapping[str, str],
        about: str = "",
        under: Sequence[Any] = (),
    ) -> html.Button:
        """The same with another action, and with words under the crop.

        Arguments:
            about: what is said before the picture's name.
        """
        name = self.looked.pictures.members[number].name
        said = f"{about}{name}: {format_number(value)}"
        inside, mark, seen = self._place(number, spot)
        image = html.Img(src=self.looked.preview(number), alt=name, style=_zoomed(inside))
        # assets/crops.js shows the picture around the crop, and in it this part, under the pointer and on focus
        around = {"data-around": ",".join(f"{100 * edge:.1f}" for edge in seen)}
        crop = [image, *mark]
        children = [html.Span(crop, className="cut"), *under] if under else crop
        kind = "crop-cell under" if under else "crop-cell"
        return html.Button(children, className=kind, title=said, **action, **around, **{"aria-label": said})

    def _place(self, number: int, spot: Sequence[int]) -> tuple[Box, list[Any], Box]:
        """What is shown, as shares of the picture; what marks the unit's field or place in it; and that field."""
        frame = self.found.frames.of(number) if self.found.frames is not None else WHOLE
        if self.field is None or spot[0] == NOWHERE:
            return frame, [], frame
        exact = within(frame, seen_share(self.field, spot))
        if exact == within(frame, WHOLE):
            return frame, [html.Span(className="dot-mark", style=_at(frame, within(frame, self._centre(spot))))], frame
        shown = _grown(exact, frame)
        mark = [] if shown == exact else [html.Span(className="frame-mark", style=_at(shown, exact))]
        return shown, mark, exact

    def _centre(self, spot: Sequence[int]) -> Box:
        """The place itself in the layer's map, as a share of the map."""
        assert self.field is not None
        rows, columns = len(self.field.rows), len(self.field.columns)
        return spot[1] / columns, spot[0] / rows, (spot[1] + 1) / columns, (spot[0] + 1) / rows


Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


def field_share(field: ReceptiveField, spot: Sequence[int]) -> Box:
    """The field of a place, row and column, as shares of what the model was given."""
    top, left, bottom, right = field.box(spot[0], spot[1])
    height, width = field.picture
    return left / width, top / height, right / width, bottom / height


def seen_share(field: ReceptiveField, spot: Sequence[int]) -> Box:
    """What is shown of a place: its field; where that is the whole picture and it is known, its effective field."""
    if not field.whole or field.effective is None:
        return field_share(field, spot)
    top, left, bottom, right = field.effective_box(spot[0], spot[1])
    height, width = field.picture
    return left / width, top / height, right / width, bottom / height


def within(frame: Box, part: Box) -> Box:
    """A part of what the model was given, as a part of the picture."""
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    return (
        frame[0] + part[0] * width,
        frame[1] + part[1] * height,
        frame[0] + part[2] * width,
        frame[1] + part[3] * height,
    )


def _grown(part: Box, frame: Box) -> Box:
    """A part with what lies around it, so that it can be recognised; not beyond what the model was given."""
    found = []
    for low, high, least, most in ((part[0], part[2], frame[0], frame[2]), (part[1], part[3], frame[1], frame[3])):
        length = min(max(high - low, LEAST * (most - least)), most - least)
        start = min(max((low + high - length) / 2, least), most - length)
        found.append((start, start + length))
    (left, right), (top, bottom) = found
    if (left, top, right, bottom) != part and right - left <= part[2] - part[0] and bottom - top <= part[3] - part[1]:
        return part
    return left, top, right, bottom


def _zoomed(part: Box) -> dict[str, str]:
    """How a picture lies in a cell that shows a part of it."""
    width, height = max(part[2] - part[0], 1e-6), max(part[3] - part[1], 1e-6)
    return {
        "width": f"{100 / width:.2f}%",
        "height": f"{100 / height:.2f}%",
        "left": f"{-100 * part[0] / width:.2f}%",
        "top": f"{-100 * part[1] / height:.2f}%",
    }


def _at(shown: Box, part: Box) -> dict[str, str]:
    """Where a part lies in a cell that shows more."""
    width, height = shown[2] - shown[0], shown[3] - shown[1]
    return {
        "left": f"{100 * (part[0] - shown[0]) / width:.2f}%",
        "top": f"{100 * (part[1] - shown[1]) / height:.2f}%",
        "width": f"{100 * (part[2] - part[0]) / width:.2f}%",
        "height": f"{100 * (part[3] - part[1]) / height:.2f}%",
    }
