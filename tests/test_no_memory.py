"""A forward pass that finds no memory is a sentence in the card, and the same worker answers the next question."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from inline_app import until
from own_page import Page, opened, operators_folder
from PIL import Image

from hookscope.dashboard.asking.questions import ActivationOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.inputs.store import Input
from hookscope.dashboard.worker.out_of_memory import is_want_of_memory
from hookscope.hooks.results.looks import Activation

# As torch words it on the devices that are not here, and one that it raises here by itself.
ERRORS = {
    "cuda": 'torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12288.00 GiB.")',
    "kernel": 'RuntimeError("CUDA error: out of memory\\nCUDA kernel errors might be asynchronously reported")',
    "cublas": 'RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")',
    "cudnn": 'RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")',
    "mps": 'RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB, other allocations: 1 GB)")',
    "metal": 'RuntimeError("Invalid buffer size: 12288.00 GiB")',
    "windows": 'RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 35184372088832 bytes.")',
    "here": "torch.empty(2**45)",
    "numpy": "np.empty(2**60, np.uint8)",
    "python": "MemoryError()",
}
LOST = 'RuntimeError("CUDA error: an illegal memory access was encountered")'
OTHER = 'RuntimeError("the memory of this model has no place 7")'

# The picture's upper left pixel chooses what happens; a black one lets the model be.
NET = """
    import numpy as np
    import torch
    from torch import nn

    FAULTS = [lambda: FAULTS_HERE]

    class Full(nn.Module):
        def forward(self, x):
            number = round(float(x[0, 0, 0, 0]) * 255)
            grey = bool((x[:, :, 1:] == x[0, 0, 7, 7]).all())  # and not the noise of the recorded run
            if grey and number:
                raise FAULTS[number - 1]()
            return x + 1

    def make():
        net = nn.Sequential(nn.AvgPool2d(1), Full(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        return net.eval(), {"input_size": 8, "resize": 8, "mean": (0, 0, 0), "std": (1, 1, 1)}
""".replace("FAULTS_HERE", ", lambda: ".join([*ERRORS.values(), OTHER, LOST]))
MODEL = "full_net:make"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with operators_folder(tmp_path_factory.mktemp("full"), full_net=NET):
        with opened(tmp_path_factory.mktemp("page"), MODEL) as made:
            yield made


def sent(page: Page, fault: int, shade: int) -> Input:
    """A new picture of one grey, whose first pixel commands a fault; 0 for none."""
    pixels = np.full((8, 8, 3), shade, np.uint8)
    pixels[0, 0] = fault
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return page.inputs.receive(io.BytesIO(buffer.getvalue()), None, "grey.png")


def at_rest(page: Page) -> str:
    """What stands in the header once nothing is computed; it says so where the worker was restarted."""
    until(lambda: page.engine.state(MODEL).phase == "ready", 60)
    return page.engine.state(MODEL).sentence


@pytest.mark.parametrize("name", ERRORS)
def test_the_card_says_so_and_the_same_worker_answers_next(page: Page, name: str) -> None:
    number, before = list(ERRORS).index(name) + 1, at_rest(page)
    shows = str(page.shows(a=sent(page, number, 10).key, layers=["1"]))
    assert "There was not enough memory for computing the activation of '1'. Choose fewer layers" in shows.replace(
        "\\'", "'"
    )
    assert "The model failed" not in shows
    assert at_rest(page) == before  # not restarted: the worker outlived it
    shade = 100 + number
    got = page.answer(Unit(Side(MODEL, sent(page, 0, shade).digest), ActivationOf("1")), Activation)
    grey = torch.full((3, 8, 8), shade / 255)
    grey[:, 0, 0] = 0
    assert torch.equal(torch.from_numpy(got.values.copy()), grey + 1)


def test_an_error_that_speaks_of_another_memory_stays_the_models(page: Page) -> None:
    shows = str(page.shows(a=sent(page, len(ERRORS) + 1, 9).key, layers=["1"]))
    assert "The model failed while" in shows and "the memory of this model has no place 7" in shows
    assert "There was not enough memory" not in shows
    assert not is_want_of_memory(ValueError("CUDA error: out of memory"))  # some code's own words


def test_a_device_that_is_lost_still_ends_the_worker(page: Page) -> None:
    shows = str(page.shows(a=sent(page, len(ERRORS) + 2, 8).key, layers=["1"]))
    assert "There was not enough memory" not in shows
    until(lambda: "Restarted at" in page.engine.state(MODEL).sentence, 60)
