"""A model of clips: its frames, layers, maps and pixels against torch, on a GIF, a still picture and a volume."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from own_page import Page, array, opened, operators_folder, texts
from PIL import Image
from torch import Tensor

from hookscope.dashboard.asking.questions import ActivationOf, ClassMap, InputMap, PredictionOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.inputs import rows
from hookscope.dashboard.sources.building import FactoryError
from hookscope.dashboard.sources.load import load
from hookscope.hooks.errors import NoSpatialAxes
from hookscope.hooks.layers.shapes import NCDHW
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.score_cam import score_cam
from hookscope.hooks.results.looks import Activation, GradCam, InputAttribution, Prediction
from hookscope.hooks.results.maps import frame, maps
from hookscope.hooks.results.targets import Class

NET = """
    import torch
    from torch import nn

    SETTINGS = {"input_size": 32, "resize": 32, "mean": 0.5, "std": 0.5, "reads": "softmax"}

    class Clip(nn.Module):
        def __init__(self, channels=3):
            super().__init__()
            self.conv = nn.Conv3d(channels, 6, 3, (2, 2, 2), 1)
            self.head = nn.Linear(6, 3)

        def forward(self, video):
            return self.head(torch.relu(self.conv(video)).mean((-3, -2, -1)))

    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv3d(3, 6, 3, 1, 1), nn.Conv2d(6, 4, 1)

        def forward(self, video):
            return self.head(self.conv(video).mean(2))

    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 3)

        def forward(self, x):
            images, frames = x.shape[:2]
            seen = torch.relu(self.conv(x.flatten(0, 1))).mean((-2, -1))
            return self.head(seen.unflatten(0, (images, frames)).mean(1))

    def make(kind="clip"):
        torch.manual_seed(1)
        kinds = {"clip": Clip, "frames": Frames, "volume": lambda: Clip(1), "pixels": Seen}
        told = SETTINGS | {"frames": 8}
        return kinds[kind]().eval(), told if kind != "pixels" else {**told, "reads": None}

    def usual():
        return Clip().eval(), SETTINGS

    def wrong():
        return Clip().eval(), SETTINGS | {"frames": 900}
"""
SPEC = "clip_net:make"
RANDOM = np.random.default_rng(5)
LEVELS = RANDOM.integers(0, 256, (12, 32, 32), np.uint8)  # of grey, which a GIF keeps as it is


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("clip")
    with operators_folder(folder, clip_net=NET), opened(folder, SPEC) as made:
        yield made


def gif(levels: np.ndarray, **how: Any) -> bytes:
    frames, file = [Image.fromarray(each) for each in levels], io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], **how)
    return file.getvalue()


@pytest.fixture(scope="module")
def clip(page: Page) -> tuple[str, str]:
    """(key, SHA-256) of a GIF of twelve frames."""
    found = page.inputs.receive(io.BytesIO(gif(LEVELS)), None, "walk.gif")
    return found.key, found.digest


def given(levels: np.ndarray) -> Tensor:
    """What the model is to be given of these eight frames: float32 (1, 3, 8, 32, 32)."""
    grey = torch.from_numpy(levels).float() / 127.5 - 1
    return grey[None, None].expand(1, 3, -1, -1, -1).contiguous()


TAKEN = [0, 2, 3, 5, 6, 8, 9, 11]  # of twelve, evenly spread


def test_the_frames_of_a_gif_are_kept_behind_its_first(page: Page, clip: tuple[str, str]) -> None:
    kept = page.inputs.pixels(clip[1])
    exact = rows.exact(kept)
    assert exact is not None and exact.frames == 12
    np.testing.assert_array_equal(np.asarray(rows.picture(kept))[..., 0], LEVELS[0])
    np.testing.assert_array_equal(exact.values.reshape(32, 32, 12, 3)[..., 0].transpose(2, 0, 1), LEVELS)


def test_a_model_of_clips_is_given_its_frames_and_answers_as_alone(page: Page, clip: tuple[str, str]) -> None:
    net: Any = page.net(SPEC)
    video = given(LEVELS[TAKEN])
    found = page.answer(Unit(Side(SPEC, clip[1]), PredictionOf()), Prediction)
    with torch.no_grad():
        np.testing.assert_allclose(found.scores.logits, net(video)[0], atol=1e-6)
        layer = page.answer(Unit(Side(SPEC, clip[1]), ActivationOf("conv")), Activation)
        np.testing.assert_allclose(layer.values, net.conv(video)[0], atol=1e-6)
    assert layer.axes == ("channel", "depth", "height", "width")
    channels = maps(layer)
    assert channels is not None and channels.shape == (6, 4 * 16, 16)
    np.testing.assert_array_equal(frame(channels, 4, 999), layer.values[:, 3])
    np.testing.assert_array_equal(frame(found.pixels, 8, 250, axis=0)[..., 0], LEVELS[3])


def test_a_still_picture_is_every_frame(page: Page) -> None:
    levels = RANDOM.integers(0, 256, (32, 32), np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    still = page.inputs.receive(io.BytesIO(file.getvalue()), None, "still.png")
    found = page.answer(Unit(Side(SPEC, still.digest), PredictionOf()), Prediction)
    with torch.no_grad():
        video = given(np.repeat(levels[None], 8, 0))
        np.testing.assert_allclose(found.scores.logits, page.net(SPEC)(video)[0], atol=1e-6)
    info = page.engine.state(SPEC).info
    assert info is not None and "It takes clips of 8 frames" in info.notes[0]


def test_maps_and_pixels_are_those_by_hand_frame_by_frame(page: Page, clip: tuple[str, str]) -> None:
    net: Any = page.net(SPEC)
    video = given(LEVELS[TAKEN]).requires_grad_()
    features = net.conv(video)
    logit = net.head(torch.relu(features).mean((-3, -2, -1)))[0, 1]
    slopes, pixels = torch.autograd.grad(logit, (features, video))
    cam = (slopes.mean((-3, -2, -1), keepdim=True) * features)[0].sum(0).detach().numpy()  # (frame, height, width)
    side = Side(SPEC, clip[1])
    found = page.answer(Unit(side, ClassMap("conv", 0, "gradcam", Class(1))), GradCam)
    np.testing.assert_allclose(found.values.reshape(cam.shape), cam, atol=1e-7)
    saliency = page.answer(Unit(side, InputMap("saliency", Class(1))), InputAttribution)
    by_hand = pixels[0].abs().amax(0).numpy()
    np.testing.assert_allclose(saliency.values.reshape(by_hand.shape), by_hand, atol=1e-7)
    # the page shows one frame of all of it, the same moment everywhere
    shown = page.shows(a=clip[0], layers=["conv"], moment=500, target="1", seen=True, attributions=True)
    assert "frame 3 of 4" in texts(shown["card-head 0"]) and "frame 5 of 8" in texts(shown["input-a-caption"])
    heat = next(trace for trace in shown["card-cam 0"]["figure"]["data"] if trace["type"] == "heatmap")
    np.testing.assert_allclose(array(heat["z"]), cam[2], atol=1e-7)
    seen = Image.open(io.BytesIO(page.client.get(shown["input-a-picture"]["src"]).get_data())).convert("RGB")
    np.testing.assert_array_equal(np.asarray(seen)[..., 0], LEVELS[TAKEN[4]])


def test_score_cam_says_that_it_hides_parts_of_one_picture(page: Page, clip: tuple[str, str]) -> None:
    shown = page.shows(a=clip[0], layers=["conv"], maps="scorecam")
    assert "Score-CAM hides parts of one picture, and this model is given a clip" in texts(shown["card-cam-text 0"])
    model = load(ModelOptions(SPEC), "cpu")
    strip = torch.rand(1, 3, 256, 32)
    ((_, _, found),) = score_cam(model.module, strip, [("conv", 0)], Class(1), model.info.layers)
    assert isinstance(found, NoSpatialAxes) and "maps of several frames" in str(found)


def test_occlusion_hides_windows_of_one_frame_each(page: Page, clip: tuple[str, str]) -> None:
    found = page.answer(Unit(Side(SPEC, clip[1]), InputMap("occlusion", Class(1))), InputAttribution)
    net, video = page.net(SPEC), given(LEVELS[TAKEN])
    drops = np.zeros((8, 32, 32))
    with torch.no_grad():
        whole = float(net(video)[0, 1])
        for number, row, column in itertools.product(range(8), range(0, 32, 4), range(0, 32, 4)):
            hidden = video.clone()
            hidden[:, :, number, row : row + 4, column : column + 4] = 0
            drops[number, row : row + 4, column : column + 4] = whole - float(net(hidden)[0, 1])
    np.testing.assert_allclose(found.values.reshape(8, 32, 32), drops, atol=1e-6)


def test_a_saved_wall_is_of_the_frame_that_is_shown_and_says_which(page: Page, clip: tuple[str, str]) -> None:
    def saved(moment: int) -> tuple[str, bytes]:
        files = page.shows(a=clip[0], layers=["conv"], moment=moment)["card-files 0"]["tree"]
        address = next(part for part in texts({"tree": files}).split() if part.startswith("/picture/"))
        return address, page.client.get(address).get_data()

    (first, early), (second, late) = saved(0), saved(800)
    assert first != second and early != late


def test_numbers_say_that_they_are_of_all_frames(page: Page, clip: tuple[str, str]) -> None:
    other = RANDOM.integers(0, 256, (8, 32, 32), np.uint8)
    b = page.inputs.receive(io.BytesIO(gif(other)), None, "run.gif").key
    shown = page.shows(
        a=clip[0], b=b, layers=["conv"], moment=500, table=True, detail="conv", channel=2, rank="difference"
    )
    net: Any = page.net(SPEC)
    with torch.no_grad():
        one, two = (net.conv(given(each))[0] for each in (LEVELS[TAKEN], other))
    apart = (one - two).abs()
    assert "Distribution and numbers of all 4 frames" in texts(shown["card-statistics 0"])
    note, grid, _ = shown["card-table 0"]["children"]
    assert "Numbers of all 4 frames" in texts(note)
    rows = {row["channel"]: row for row in grid["props"]["rowData"]}
    of_all = apart.mean((1, 2, 3))
    np.testing.assert_allclose([rows[index]["difference"] for index in range(6)], of_all, rtol=1e-4)
    np.testing.assert_allclose([rows[index]["A_mean"] for index in range(6)], one.mean((1, 2, 3)), rtol=1e-4)
    assert [row["channel"] for row in grid["props"]["rowData"]] == of_all.argsort(descending=True).tolist()
    # of an enlarged channel there is one frame, and so are its numbers and those of a cell that is pointed at
    numbers = texts(shown["detail-numbers"])
    assert "of this frame" in numbers and f"{float(apart[2, 2].mean()):.4g}" in numbers
    wall = [trace for trace in shown["card-wall 0"]["figure"]["data"] if "mean" in trace.get("hovertemplate", "")]
    assert f"A: mean {float(one[:, 2].mean()):.4g}" in wall[0]["hovertemplate"] + wall[1]["hovertemplate"]


def test_a_map_of_classes_as_large_as_a_frame_is_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    with operators_folder(tmp_path_factory.mktemp("pixels"), clip_net=NET):
        info = load(ModelOptions(SPEC, arguments='{"kind": "pixels"}'), "cpu").info
    assert (info.form(), info.answer.reading.reads, info.outputs[0].stride) == ("pixels", "softmax", 1)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_clip_that_its_orientation_turns_is_a_picture(page: Page, orientation: int) -> None:
    frames = [Image.fromarray(each) for each in LEVELS[:3]]
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:], exif=exif)
    found = page.inputs.receive(io.BytesIO(file.getvalue()), None, "turned.png")
    assert rows.exact(page.inputs.pixels(found.digest)) is None


def test_a_model_of_pictures_takes_the_first_frame(tmp_path_factory: pytest.TempPathFactory) -> None:
    code = "import brought_models\nmake = lambda: (brought_models.Net(), brought_models.PLAIN)\n"
    with operators_folder(tmp_path_factory.mktemp("still"), still_net=code):
        model = load(ModelOptions("still_net:make"), "cpu")
    exact = rows.Exact(RANDOM.integers(0, 256, (64, 64, 36), np.uint8), 0.0, 255.0, frames=12)
    picture = Image.fromarray(np.ascontiguousarray(exact.values[..., :3]))
    assert torch.equal(model.prepare(picture, exact).tensor, model.prepare(picture).tensor)


def test_frames_before_channels_and_slices_of_a_volume_are_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    with operators_folder(tmp_path_factory.mktemp("kinds"), clip_net=NET):
        picture = Image.fromarray(RANDOM.integers(0, 256, (32, 32, 3), np.uint8))
        levels = RANDOM.integers(0, 256, (32, 32, 12), np.uint8)
        for kind in ("frames", "volume"):
            model = load(ModelOptions(SPEC, arguments=f'{{"kind": "{kind}"}}'), "cpu")
            strip = model.prepare(picture, rows.Exact(levels, 0.0, 255.0) if kind == "volume" else None).tensor
            clip = strip.unflatten(2, (8, 32))
            inner = type(model.module).forward
            with torch.no_grad():
                alone = inner(model.module, clip if kind == "volume" else clip.transpose(1, 2))
                torch.testing.assert_close(model.module(strip), alone)
            seen = model.info.by_name["conv"].calls[0]
            assert seen.axes == (NCDHW if kind == "volume" else ("depth", "channel", "height", "width"))
            if kind == "frames":
                ((_, _, found),) = grad_cam(model.module, strip, [("conv", 0)], Class(1), model.info.layers)
                assert isinstance(found, GradCam)
                net: Any = model.module
                features = net.conv(clip[0].transpose(0, 1))
                logit = net.head(torch.relu(features).mean((0, 2, 3)))[1]
                (slope,) = torch.autograd.grad(logit, features)
                cam = (slope.mean((0, 2, 3), keepdim=True) * features).sum(1).detach().numpy()
                np.testing.assert_allclose(found.values.reshape(cam.shape), cam, atol=1e-7)
            else:
                slices = torch.from_numpy(levels[..., TAKEN]).permute(2, 0, 1).float() / 127.5 - 1
                torch.testing.assert_close(clip[0, 0], slices)
        assert load(ModelOptions("clip_net:usual"), "cpu").info.preprocessing.frames == 16
        with pytest.raises(FactoryError, match="'frames': a whole number from 1 to 64 is needed"):
            load(ModelOptions("clip_net:wrong"), "cpu")


def test_of_many_large_frames_the_first_are_kept(page: Page) -> None:
    """Each is drawn over the one before, so all of them would take longer than a picture may."""
    levels = np.repeat(np.arange(0, 240, 4, np.uint8), 1000 * 1000).reshape(60, 1000, 1000)
    found = page.inputs.receive(io.BytesIO(gif(levels)), None, "long.gif")
    exact = rows.exact(page.inputs.pixels(found.digest))
    assert exact is not None and exact.frames == 16  # 50 MB of the first 40
    assert found.notes == ("first of 60 frames", "as a clip the first 40")
    seen = exact.values[0, 0].reshape(16, 3)[:, 0]
    np.testing.assert_array_equal(seen, [4 * round(index * 39 / 15) for index in range(16)])


@pytest.mark.parametrize("cut", [0.4, 0.8])
def test_what_a_damaged_gif_still_has_is_kept(page: Page, cut: float) -> None:
    data = gif(LEVELS)
    found = page.inputs.receive(io.BytesIO(data[: int(len(data) * cut)]), None, "cut.gif")
    exact = rows.exact(page.inputs.pixels(found.digest))
    assert exact is not None and 2 <= exact.frames < 12
    kept = exact.values.reshape(32, 32, exact.frames, 3)[..., 0].transpose(2, 0, 1)
    np.testing.assert_array_equal(kept[:-1], LEVELS[: exact.frames - 1])


def test_a_videos_model_of_torchvision_opens() -> None:
    model = load(ModelOptions("torchvision:r3d_18@random"), "cpu")
    info = model.info
    assert (info.preprocessing.frames, info.preprocessing.crop) == (16, (112, 112)) and len(info.classes) == 400
    strip = model.prepare(Image.fromarray(RANDOM.integers(0, 256, (200, 300, 3), np.uint8))).tensor
    with torch.no_grad():
        assert strip.shape == (1, 3, 16 * 112, 112)
        torch.testing.assert_close(
            model.module(strip), type(model.module).forward(model.module, strip.unflatten(2, (16, 112)))
        )
