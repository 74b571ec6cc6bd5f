"""What is written for TensorBoard, read back with TensorBoard's own reader."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from hookscope.hooks.datasets.diagnostics import Diagnostics
from hookscope.hooks.datasets.tensorboard import Writer, levels, scale, tag
from hookscope.hooks.errors import HooksError
from hookscope.hooks.looks.gradients import gradients
from hookscope.hooks.numbers.reductions import statistics


def read(folder: Path) -> EventAccumulator:
    """Everything in a run, nothing sampled away."""
    return EventAccumulator(str(folder), {"histograms": 0, "images": 0, "scalars": 0, "tensors": 0}).Reload()


def test_scalars_and_histograms_come_back_as_they_were(tmp_path):
    torch.manual_seed(0)
    values = torch.randn(1, 3, 20, 20)
    values[0, 0, 0, 0] = float("nan")
    numbers = statistics(values, 1)
    with Writer(tmp_path) as writer:
        writer.add_statistics("layer1.relu", numbers, step=7)
    run = read(tmp_path)
    for name in ("mean", "std", "min", "max", "zeros", "nan", "inf"):
        (event,) = run.Scalars(f"output {name}/layer1.relu")
        assert event.step == 7 and event.value == np.float32(getattr(numbers, name))
    (event,) = run.Histograms("output/layer1.relu")
    found = event.histogram_value
    finite = values[values.isfinite()].double().numpy()
    assert (found.num, found.min, found.max) == (1199, finite.min(), finite.max())
    assert found.sum == pytest.approx(finite.sum()) and found.sum_squares == pytest.approx((finite**2).sum())
    counts, edges = np.histogram(finite, 64)
    assert found.bucket_limit == edges.tolist() and found.bucket == [0, *counts.tolist()]


def test_maps_are_rounded_on_a_scale_of_ours_and_not_clipped(tmp_path):
    ramp = np.array([[[-2.0, 0.0], [0.5, 10.0]], [[5.0, -10.0], [0.0, np.nan]]], np.float32)
    with Writer(tmp_path) as writer:
        writer.add_maps("layer1", ramp)
    run = read(tmp_path)
    (event,) = run.Images("maps/layer1")
    grid = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))[..., 0]
    assert grid.shape == (2, 4)  # two channels beside each other
    #  -10 is 0, 0 is 127.5, 10 is 255
    assert grid.tolist() == [[102, 128, 191, 0], [134, 255, 128, 0]]
    # Control: given as they are, TensorBoard clips, and -2 and 0 become the same
    with Writer(tmp_path / "clipped") as writer:
        writer._writer.add_images("naive", ramp[:1, None], 0)
    (event,) = read(tmp_path / "clipped").Images("naive")
    assert np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))[..., 0].tolist() == [[0, 0], [127, 255]]


def test_scales():
    assert scale(np.array([1.0, 4.0])) == (0, 4) and scale(np.array([-1.0, 0.5])) == (-1, 1)
    assert scale(np.array([np.nan])) == (0, 0) and levels(np.array([np.nan]), 0, 0).tolist() == [0]
    assert levels(np.array([np.inf, 0.0, 4.0]), 0.0, 4.0).tolist() == [0, 0, 255]
    assert levels(np.zeros((2, 2)), 0, 0).tolist() == [[0, 0], [0, 0]]


def test_diagnostics_are_written_with_gradients_dead_channels_and_maps(tmp_path):
    torch.manual_seed(0)
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 70, 3), relu, nn.Conv2d(70, 4, 3), relu, nn.Flatten(), nn.LazyLinear(5))
    model(torch.randn(1, 3, 8, 8))
    model[0].bias.data[0] = -100.0
    diagnostics = Diagnostics(model.eval(), gradients=True, features=1)
    with Writer(tmp_path) as writer:
        for step in range(2):
            diagnostics.run(torch.randn(2, 3, 8, 8), target=1)
            writer.add_diagnostics(diagnostics, step)
    run = read(tmp_path)
    tags = run.Tags()
    assert {"output/0", "output/1", "output/1 call 2", "gradient/0", "gradient/5"} <= set(tags["histograms"])
    assert {"maps/0", "mean map/0", "maps/1 call 2"} <= set(tags["images"])
    assert not [name for name in tags["images"] if name.endswith("/5")]  # no height, no width, no picture
    assert [event.step for event in run.Scalars("output mean/0")] == [0, 1]
    assert run.Scalars("dead channels/1")[-1].value == np.float32(1 / 70)
    assert "dead channels/0" not in tags["scalars"]
    found = diagnostics.summary("0", of="gradient")
    assert run.Scalars("gradient norm/0")[-1].value == np.float32(found.norm)
    assert run.Histograms("gradient/0")[-1].histogram_value.num == found.statistics.count
    (text,) = {bytes(event.tensor_proto.string_val[0]) for event in run.Tensors("maps/0/text_summary")}
    assert text.startswith(b"64 of 70 channels")


def test_gradients_by_layer_are_torchs_own_and_a_layer_without_one_is_left_out(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.aside = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 3, 1)

        def forward(self, x):
            self.aside(x)
            return self.conv(self.conv(x)).flatten(1)

    torch.manual_seed(0)
    model, image = Twice().eval(), torch.randn(1, 1, 2, 2)
    with Writer(tmp_path) as writer:
        writer.add_gradients(gradients(model, image, target=3, at_inputs=True), step=4)
    run = read(tmp_path)
    weight = model.conv.weight.item()
    norms = {name: run.Scalars(name)[0] for name in run.Tags()["scalars"] if name.startswith("gradient norm/")}
    assert {event.step for event in norms.values()} == {4}
    # one logit: its gradient is 1 at one pixel of the second call, w of the first, and w² of the picture
    expected = {
        "conv call 2": 1,
        "conv call 2 input": weight,
        "conv": weight,
        "conv input": weight**2,
        "aside input": weight**2,
    }
    assert {name: event.value for name, event in norms.items()} == {
        f"gradient norm/{name}": pytest.approx(abs(value), rel=1e-6) for name, value in expected.items()
    }
    assert run.Scalars("gradient zeros/conv")[0].value == 0.75
    assert run.Scalars("gradient max abs/conv")[0].value == pytest.approx(abs(weight), rel=1e-6)
    (text,) = {bytes(event.tensor_proto.string_val[0]) for event in run.Tensors("gradient/text_summary")}
    assert text.startswith(b"of class 3, whose score is ")


def test_what_is_no_map_is_refused_and_an_exception_still_writes_out(tmp_path):
    with pytest.raises(HooksError, match="channel, height, width"), Writer(tmp_path) as writer:
        writer.add_statistics("a", statistics(torch.ones(3), None))
        writer.add_maps("a", np.zeros((4, 4)))
    assert read(tmp_path).Scalars("output mean/a")[0].value == 1


def test_names():
    assert (tag("layer1", 0), tag("layer1", 1), tag("", 0)) == ("layer1", "layer1 call 2", "model")
