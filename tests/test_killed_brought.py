"""A worker that is killed while a page shows two pictures, a clip, captions or masks: said, and then answered rightly.

The workers are processes, as they are behind the program; the oracle is torch and transformers in this one.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hugging_face_folders as folders
import numpy as np
import pytest
import test_clips
import test_two_pictures
import torch
from inline_app import until
from own_page import Page, operators_folder, texts
from PIL import Image
from torch import Tensor

from hookscope.dashboard.engine.process import WorkerProcess

MASKS = """
    import test_masks

    def make():
        return test_masks.small(test_masks.MaskRCNN), {"mean": 0.0, "std": 1.0, "resize": "none"}
"""
CAPTIONS = "a red cat\na green dog"
RANDOM = np.random.default_rng(6)


def noise(height: int, width: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def factory(spec: str) -> torch.nn.Module:
    module, _, name = spec.partition(":")
    net: torch.nn.Module = getattr(__import__(module), name)()[0]
    return net


@dataclass(frozen=True)
class Shown:
    """What a page shows.

    Attributes:
        spec: of the model. layer: of the card. views: of two questions, with files in the place of inputs' keys.
        right: the texts that are to stand beside the second question's picture, by torch.
    """

    spec: str
    layer: str
    views: tuple[dict[str, Any], dict[str, Any]]
    right: Callable[[], list[str]]


def pair(folder: Path) -> Shown:
    one, two = noise(64, 64), noise(64, 64)

    def right() -> list[str]:
        shares = factory(test_two_pictures.SPEC)(tensor(two), tensor(one)).softmax(1)[0]
        return [f"{share:.3f}" for share in shares.tolist()]

    views = {"a": png(one), "second_a": png(two)}, {"a": png(two), "second_a": png(one)}
    return Shown(test_two_pictures.SPEC, "fuse", views, right)


def clip(folder: Path) -> Shown:
    first, second = (RANDOM.integers(0, 256, (8, 32, 32), np.uint8) for _ in range(2))

    def right() -> list[str]:
        shares = factory(test_clips.SPEC)(test_clips.given(second)).softmax(1)[0]
        return [f"{share:.3f}" for share in shares.tolist()]

    return Shown(test_clips.SPEC, "conv", ({"a": test_clips.gif(first)}, {"a": test_clips.gif(second)}), right)


def captions(folder: Path) -> Shown:
    folders.write(folder, (folders.clip,))
    one, two = noise(64, 64), noise(64, 64)

    def right() -> list[str]:
        import transformers as hf

        place = folder / "clip"
        model = hf.CLIPModel.from_pretrained(place, local_files_only=True).eval()
        images = hf.AutoImageProcessor.from_pretrained(place, local_files_only=True)
        processor: Any = hf.CLIPProcessor(images, folders.tokenizer())
        texts_, picture = CAPTIONS.split("\n"), Image.fromarray(two)
        given = processor(text=texts_, images=picture, return_tensors="pt", padding="max_length")
        names = ("pixel_values", "input_ids", "attention_mask")
        shares = model(**{name: given[name] for name in names}).logits_per_image.softmax(-1)[0]
        return [f"{share:.3f}" for share in shares.tolist()]

    views = {"a": png(one), "captions": CAPTIONS}, {"a": png(two), "captions": CAPTIONS}
    return Shown(f"hf:{folder / 'clip'}", "model.vision_model.encoder.layers.0", views, right)


def masks(folder: Path) -> Shown:
    one, two = noise(70, 90), noise(70, 90)

    def right() -> list[str]:
        (found,) = factory("mask_net:make")([tensor(two)[0]])
        areas = (found["masks"] > 0.5).sum((1, 2, 3)).tolist()
        assert any(areas)
        return [f"{score:.3f}" for score in found["scores"].tolist()] + [f"mask {area:,} px" for area in areas]

    return Shown("mask_net:make", "backbone.body.16.0", ({"a": png(one)}, {"a": png(two)}), right)


@contextmanager
def in_processes(folder: Path, spec: str) -> Iterator[Page]:
    page = Page(folder, spec, start_worker=WorkerProcess)
    try:
        yield page
    finally:
        page.close()


SLOW = [pytest.param(each, marks=pytest.mark.slow) for each in (captions, masks)]  # 20 seconds each


@pytest.mark.parametrize("kind", [pair, clip, *SLOW])
def test_a_killed_worker_is_said_and_the_next_question_answered(
    kind: Callable[[Path], Shown], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(Path(__file__).parent), *sys.path])))
    modules = {"pair_net": test_two_pictures.NET, "clip_net": test_clips.NET, "mask_net": MASKS}
    with operators_folder(tmp_path, **modules):
        case = kind(tmp_path)
        with torch.no_grad():
            right = case.right()
        with in_processes(tmp_path, case.spec) as page:

            def keyed(view: dict[str, Any]) -> dict[str, Any]:
                files = {name: each for name, each in view.items() if isinstance(each, bytes)}
                keys = {name: page.inputs.receive(io.BytesIO(each), None, "x").key for name, each in files.items()}
                return {"layers": [case.layer], **view, **keys}

            first, second = map(keyed, case.views)
            before = page.shows(**first)
            assert before["card-wall 0"]["figure"]["data"]
            top = texts(before["input-a-top"])
            assert not all(text in top for text in right)
            (pid,) = page.engine.pids(case.spec)
            until(lambda: page.engine.state(case.spec).phase == "ready", 30)
            os.kill(pid, signal.SIGSTOP)  # so that it is in the middle of something
            stream = page.ask(**second)
            until(lambda: page.engine.state(case.spec).phase == "computing", 30)
            os.kill(pid, signal.SIGKILL)
            told = " ".join(texts(message["updates"]) for message in page.messages(stream))
            assert "The worker was killed (SIGKILL)" in told and "Try again" in told
            after = page.shows(**second)
            assert [text for text in right if text not in texts(after["input-a-top"])] == []
            assert after["card-wall 0"]["figure"]["data"] and "Try again" not in texts(after)
            assert pid not in page.engine.pids(case.spec)
            # and while nothing is asked
            (pid,) = page.engine.pids(case.spec)
            os.kill(pid, signal.SIGKILL)
            until(lambda: page.engine.pids(case.spec) not in ([], [pid]), 30)
            again = page.shows(**{**second, "maps": "layercam"})
            assert texts(again["input-a-top"]) == texts(after["input-a-top"])
            assert again["card-cam 0"]["figure"]["data"]
