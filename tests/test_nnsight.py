"""Restoring and editing against nnsight; how its values were made stands in `nnsight_values.py`."""

from __future__ import annotations

import json

import pytest
import torch
from nnsight_values import LAYERS, STRONGEST, VALUES, made, pictures

import hookscope as hs

STORED = json.loads(VALUES.read_text())["models"]


@pytest.mark.parametrize("name", LAYERS)
def test_restoring_and_editing_give_what_nnsight_gives(name: str) -> None:
    net, (a, b), stored = made(name), pictures(), STORED[name]
    layers = hs.describe(net, a)
    classes = stored["target"], stored["target_b"]
    asked = {"target": classes[0], "target_b": classes[1], "layers": layers}
    *_, known = hs.restore(net, a, b, LAYERS[name], **asked, strongest=STRONGEST)
    assert [each.layer for each in known.layers] == list(LAYERS[name])
    for found in known.layers:
        right = stored["layers"][found.layer]
        assert list(found.channels) == right["channels"]
        assert [found.whole, found.strongest] == pytest.approx([right["whole"], right["some"]], abs=1e-5)
        assert found.all_paths == (abs(right["whole"] - 1) < 1e-9)

        def answer(picture: torch.Tensor, *edits: object) -> torch.Tensor:
            with torch.no_grad(), hs.edit(net, edits, layers=layers):
                return net(picture)[0].double()

        with torch.no_grad(), hs.capture(net, [found.layer]) as seen:
            net(a)
        patched = answer(b, *(hs.patch(found.layer, seen, channel) for channel in found.channels))
        contrast = float(patched[classes[0]] - patched[classes[1]])
        assert (contrast - stored["of_b"]) / (stored["of_a"] - stored["of_b"]) == pytest.approx(right["some"], abs=1e-5)
        for gain, logits in ((0.0, right["muted"]), (2.0, right["doubled"])):
            edited = answer(a, *(hs.scale(found.layer, channel, gain) for channel in found.channels))
            right_logits = torch.tensor(logits, dtype=torch.float64)
            assert float((edited - right_logits).abs().max() / right_logits.abs().max()) <= 1e-5
