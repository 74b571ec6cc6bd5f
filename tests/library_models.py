"""Models as the documentation of libraries has them, each the smallest of its kind; most answer what `Net` does."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import torch
from brought_models import Net
from torch import Tensor, nn

Named = namedtuple("Named", ["logits", "aux_logits"])


@dataclass
class Held:
    """What a model of one's own answers instead of a dict."""

    logits: Tensor
    features: Tensor


class NamedTuple(Net):
    """As GoogLeNet's and Inception's outputs in training."""

    def forward(self, picture: Tensor) -> Any:
        logits = super().forward(picture)
        return Named(logits, logits[:, :2])


class InADataclass(Net):
    def forward(self, picture: Tensor) -> Any:
        vector = self.vector(picture)
        return Held(self.fc(vector), vector)


class Lightning(nn.Module):
    """As a LightningModule holds its network, with the loss beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.criterion = Net(), nn.CrossEntropyLoss()

    def forward(self, picture: Tensor) -> Any:
        return self.model(picture)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss: Tensor = self.criterion(self(batch[0]), batch[1])
        return loss


class UNet(nn.Module):
    """One level of it; with `labels` as segmentation_models_pytorch answers with `aux_params`: a mask and labels."""

    def __init__(self, channels: int, classes: int, labels: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.down, self.act = nn.Conv2d(channels, 8, 3, 2, 1), nn.PReLU()
        self.up, self.out = nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(8, classes, 1)
        self.head = nn.Linear(8, labels) if labels else None
        with torch.no_grad():
            for each in self.parameters():
                each.copy_(torch.randn(each.shape, generator=generator) * 0.3)

    def forward(self, picture: Tensor) -> Any:
        low = self.act(self.down(picture))
        mask = self.out(self.up(low))
        return mask if self.head is None else (mask, self.head(low.mean((2, 3))))


class Auxiliary(UNet):
    """As torchvision's segmenters with `aux_loss=True`: the same classes twice."""

    def forward(self, picture: Tensor) -> Any:
        mask = super().forward(picture)
        return {"out": mask, "aux": mask * 0.5}


class ChannelsLast(Net):
    """As those that were trained elsewhere: (image, height, width, channel)."""

    def forward(self, picture: Tensor) -> Any:
        return super().forward(picture.permute(0, 3, 1, 2))


def quantised() -> nn.Module:
    """In int8 from its input on, calibrated with noise."""
    from torch.ao import quantization

    torch.backends.quantized.engine = "fbgemm"
    net = nn.Sequential(quantization.QuantStub(), Net(), quantization.DeQuantStub()).eval()
    net.qconfig = quantization.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    prepared = quantization.prepare(net)
    prepared(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    made: nn.Module = quantization.convert(prepared)
    return made


def dynamically_quantised() -> nn.Module:
    from torch.ao import quantization

    made: nn.Module = quantization.quantize_dynamic(Net(), {nn.Linear})
    return made


def prepared_for_int8() -> nn.Module:
    """As quantisation-aware training has it, with observers in every layer."""
    from torch.ao import quantization

    net = nn.Sequential(quantization.QuantStub(), Net(), quantization.DeQuantStub()).train()
    net.qconfig = quantization.get_default_qat_qconfig("fbgemm")  # type: ignore[assignment]
    made: nn.Module = quantization.prepare_qat(net)
    made(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return made


def exported() -> Any:
    return torch.export.export(Net().eval(), (torch.rand(1, 3, 64, 64),)).module()


def parametrised() -> nn.Module:
    """Weight and spectral norm, as generators and their critics have them."""
    net = Net()
    nn.utils.parametrizations.weight_norm(net.conv)
    nn.utils.parametrizations.spectral_norm(net.fc)
    return net
