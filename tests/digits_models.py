"""A small network that reads handwritten digits, trained here, and the same in int8: what a browser test brings."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

SIZE = 16  # each digit's 8 x 8 pixels, enlarged
CODE = """
    from pathlib import Path

    import torch
    from torch import nn
    from torch.ao import quantization

    HERE = Path(__file__).parent
    HOW = {"input_size": 16, "resize": 16, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    HOW["classes"] = list("0123456789")


    class Digits(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.relu1 = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
            self.quant = quantization.QuantStub()  # what lies before it stays in float32, as first layers often do
            self.conv2, self.relu2 = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(inplace=True)
            self.conv3, self.relu3 = nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
            self.dequant = quantization.DeQuantStub()
            self.fc = nn.Linear(16 * 16, 10)

        def forward(self, picture):
            first = self.quant(self.relu1(self.conv1(picture)))
            inside = self.relu3(self.conv3(self.relu2(self.conv2(first))))
            return self.fc(nn.functional.max_pool2d(self.dequant(inside), 2).flatten(1))


    def plain():
        net = Digits()
        net.load_state_dict(torch.load(HERE / "digits.pt"))
        return net.eval()


    def whole():
        return plain(), HOW


    def int8():
        torch.backends.quantized.engine = "fbgemm"
        net = plain()
        net.qconfig = quantization.get_default_qconfig("fbgemm")
        net.conv1.qconfig = net.relu1.qconfig = net.fc.qconfig = None
        prepared = quantization.prepare(net)
        prepared(torch.load(HERE / "some.pt"))
        return quantization.convert(prepared), HOW


    def rounded():
        # conv3's weights alone, each filter to 255 steps
        net = plain()
        weight = net.conv3.weight.data
        step = weight.abs().amax((1, 2, 3), keepdim=True) / 127
        weight.copy_((weight / step).round() * step)
        return net, HOW
"""


def digits() -> tuple[Tensor, Tensor]:
    """Every digit of scikit-learn, (picture, 3, 16, 16) in -1..1 in the steps of a file's bytes, and its class."""
    loaded: Any = load_digits()
    large = functional.interpolate(torch.from_numpy(loaded.images).float()[:, None] / 16, size=(SIZE, SIZE))
    return ((large * 255).round() / 127.5 - 1).expand(-1, 3, -1, -1), torch.from_numpy(loaded.target)


def bordered(picture: Tensor, grey: float = 0.6) -> Tensor:
    """The same with a border two pixels wide, on which the network goes wrong in about a third."""
    found = torch.full_like(picture, grey)
    found[..., 2:-2, 2:-2] = picture[..., 2:-2, 2:-2]
    return found


def file_of(picture: Tensor, path: Path) -> Path:
    """A digit as a file, of which the network gets exactly these values."""
    Image.fromarray(((picture + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(np.uint8)).save(path)
    return path


def write_module(folder: Path) -> dict[str, Any]:
    """Train the network, and write the module `digits_net` into a folder; gives what stands in the module."""
    path = folder / "digits_net.py"
    path.write_text(textwrap.dedent(CODE))
    found: dict[str, Any] = {"__file__": str(path)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(path.read_text(), path, "exec"), found)
        net: nn.Module = found["Digits"]().train()
        own = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own) * (0.1 if each.ndim < 2 else each[0].numel() ** -0.5))
        pictures, classes = digits()
        optimiser = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(80):
            some = torch.randint(len(pictures), (64,), generator=own)
            optimiser.zero_grad()
            functional.cross_entropy(net(pictures[some]), classes[some]).backward()
            optimiser.step()
    torch.save(net.state_dict(), folder / "digits.pt")
    torch.save(pictures[:64].clone(), folder / "some.pt")
    return found
