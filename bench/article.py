"""The article's way of showing a layer: a Dash page with the model inside, a heatmap per channel, JSON lists.

`python -m bench.article` serves it and prints its address. A click runs the model under a forward hook and draws what
the hook saw, either as one heatmap per channel in a grid of subplots, or as one `px.imshow` of all channels.
"""

from __future__ import annotations

import math

import dash
import numpy as np
import plotly.express as px
import plotly.graph_objects as go
import torch
import waitress
from dash import ALL, Input, Output, dcc, html
from PIL import Image
from plotly.subplots import make_subplots
from torch import nn

from bench.walls import PHOTOGRAPH, WALLS, resnet

STYLES = ("heatmaps", "montage")


def activation(model: nn.Module, layer: str, picture: torch.Tensor) -> np.ndarray:
    """What a layer computes, by a forward hook: float32 (channel, height, width)."""
    seen: list[np.ndarray] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _module, _args, output: seen.append(output[0].detach().clone().numpy())
    )
    with torch.no_grad():
        model(picture)
    handle.remove()
    return seen[0]


def heatmaps(maps: np.ndarray) -> go.Figure:
    """One heatmap per channel in a grid of subplots, values as lists."""
    columns = math.ceil(math.sqrt(len(maps)))
    rows = math.ceil(len(maps) / columns)
    figure = make_subplots(rows, columns, horizontal_spacing=0.1 / columns, vertical_spacing=0.1 / rows)
    for index, channel in enumerate(maps):
        row, column = divmod(index, columns)
        figure.add_trace(go.Heatmap(z=channel.tolist(), showscale=False), row + 1, column + 1)
    return figure.update_xaxes(visible=False).update_yaxes(visible=False, autorange="reversed")


def montage(maps: np.ndarray) -> go.Figure:
    """All channels side by side in one `px.imshow`, values as lists."""
    columns = math.ceil(math.sqrt(len(maps)))
    rows = math.ceil(len(maps) / columns)
    height, width = maps.shape[1:]
    padded = np.zeros((rows * columns, height, width))
    padded[: len(maps)] = maps
    picture = padded.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    described = px.imshow(picture).to_dict()
    described["data"][0]["z"] = picture.tolist()  # Plotly itself would send binary; the article's version sent lists
    return go.Figure(described)


def create_app() -> dash.Dash:
    """The page: a button per layer and style, and one graph."""
    model = resnet()
    with Image.open(PHOTOGRAPH) as image:
        picture = model.prepare(image.convert("RGB")).tensor
    app = dash.Dash(__name__, serve_locally=True, enable_mcp=False)
    names = [f"{wall.layer} {style}" for wall in WALLS for style in STYLES]
    buttons = [html.Button(name, id={"type": "show", "name": name}) for name in names]
    app.layout = html.Div([html.Div(buttons), dcc.Graph(id="graph", style={"height": "820px"})])

    @app.callback(
        Output("graph", "figure"), Input({"type": "show", "name": ALL}, "n_clicks"), prevent_initial_call=True
    )
    def show(_clicks: list[int | None]) -> go.Figure:
        layer, style = dash.ctx.triggered_id["name"].split()
        maps = activation(model.module, layer, picture)
        figure = heatmaps(maps) if style == "heatmaps" else montage(maps)
        return figure.update_layout(meta=f"{layer} {style}")

    return app


def main() -> None:
    """Serve the page until a signal comes."""
    app = create_app()
    server = waitress.create_server(app.server, host="127.0.0.1", port=0)
    print(f"The article's page is open at http://127.0.0.1:{server.effective_port}/", flush=True)
    server.run()


if __name__ == "__main__":
    main()
