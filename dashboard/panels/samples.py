"""The built-in pictures as buttons: a few in sight, the others one click away."""

from __future__ import annotations

from typing import Any

from dash import html

from hookscope.dashboard.inputs.samples import SAMPLES, Sample

IN_SIGHT = 5


def choose_sample(prefix: str, place: str, name_more: str = "") -> html.Div:
    """Draw the buttons that put a sample at a place.

    Arguments:
        prefix: of the page's addresses. place: which field of the view names the picture, "a".
        name_more: what readers are told behind a picture's title.
    """
    photographs = [sample for sample in SAMPLES.values() if not sample.crop_of]
    crops = [sample for sample in SAMPLES.values() if sample.crop_of]

    def button(sample: Sample) -> html.Button:
        part = f", a crop of {SAMPLES[sample.crop_of].file}" if sample.crop_of else ""
        what: dict[str, Any] = {"data-sample": sample.name, "data-side": place}
        # as a background, because a browser fetches that of a closed disclosure only when it is opened
        return html.Button(
            className="sample",
            style={"backgroundImage": f"url({prefix}sample/{sample.name})"},
            title=f"{sample.title}{part} ({sample.credit})",
            **what | {"aria-label": sample.title + part + name_more},
        )

    more = [
        html.Summary(f"{len(photographs) - IN_SIGHT} more photographs and {len(crops)} crops"),
        html.Div([button(sample) for sample in photographs[IN_SIGHT:] + crops], className="samples"),
    ]
    shown = [button(sample) for sample in photographs[:IN_SIGHT]]
    return html.Div([*shown, html.Details(more, className="more-samples")], className="samples")
