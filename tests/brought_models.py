"""Models as people bring them, small enough that what is right can be worked out by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "input_size": (64, 64), "resize": 64}


def pointwise(weight: list[list[float]], bias: list[float]) -> nn.Conv2d:
    """A 1 x 1 convolution of these (output, input) weights."""
    layer = nn.Conv2d(len(weight[0]), len(weight), 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight)[:, :, None, None])
        layer.bias.copy_(torch.tensor(bias))
    return layer


class Net(nn.Module):
    """Two convolutions, the mean over the positions, a linear layer; always the same weights."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 6, 5, stride=4, padding=2), nn.ReLU()
        self.fc = nn.Linear(6, outputs)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for each in self.parameters():
                each.copy_(torch.randn(each.shape, generator=generator) * 0.4)

    def features(self, picture: Tensor) -> Tensor:
        found: Tensor = self.act(self.conv(picture))
        return found

    def vector(self, picture: Tensor) -> Tensor:
        return self.features(picture).mean((2, 3))

    def forward(self, picture: Tensor) -> Any:
        return self.fc(self.vector(picture))


def saying(*numbers: float) -> Net:
    """A net that answers these numbers, very nearly, whatever it is shown."""
    net = Net(len(numbers))
    with torch.no_grad():
        net.fc.weight.mul_(1e-4)
        net.fc.bias.copy_(torch.tensor(numbers))
    return net


def yes_or_no() -> Any:
    return saying(-2.0), {**PLAIN, "classes": ["defect"]}


def age() -> Any:
    return saying(58.0), {**PLAIN, "classes": ["age"]}


class Ends(nn.Module):
    """A net whose answer goes through a function at its end."""

    def __init__(self, net: Net, end: Any) -> None:
        super().__init__()
        self.net, self.end = net, end

    def forward(self, picture: Tensor) -> Any:
        return self.end(self.net(picture))


ENDS = {
    "a softmax module": nn.Softmax(dim=1),
    "a softmax function": lambda x: functional.softmax(x, dim=-1),
    "a softmax method": lambda x: x.softmax(1),
    "a softmax, squeezed and back": lambda x: x.softmax(1).squeeze(0).unsqueeze(0),
    "the exponential of a log-softmax": lambda x: torch.log_softmax(x, 1).exp(),
    "a sigmoid module": nn.Sigmoid(),
    "a sigmoid function": torch.sigmoid,
    "a sigmoid in place": lambda x: x.clone().sigmoid_(),
    "an expit in half precision": lambda x: torch.special.expit(x).half(),
}


def ends_in_softmax() -> Any:
    return nn.Sequential(saying(2.2, 0.0), nn.Softmax(dim=1)), {**PLAIN, "classes": ["good", "bad"]}


class TwoOutputs(Net):
    """Features and logits, in a dict, in a tuple or in an order of one's own."""

    def __init__(self, form: Any, outputs: int = 5) -> None:
        super().__init__(outputs)
        self.form = form

    def forward(self, picture: Tensor) -> Any:
        vector = self.vector(picture)
        return self.form(vector, self.fc(vector))


def embedding_and_logits() -> Any:
    return TwoOutputs(lambda vector, logits: (vector, logits)), {**PLAIN, "classes": list("abcde")}


def heads() -> Any:
    class Heads(Net):
        def __init__(self) -> None:
            super().__init__(3)
            self.age = saying(31.0).fc

        def forward(self, picture: Tensor) -> Any:
            vector = self.vector(picture)
            return {"age": self.age(vector), "emotion": self.fc(vector)}

    return Heads(), {**PLAIN, "classes": ["calm", "glad", "sad"]}


def face() -> Any:
    class Face(Net):
        def forward(self, picture: Tensor) -> Any:
            return functional.normalize(super().forward(picture), dim=1)

    return Face(32), PLAIN


def thousand_parts() -> Any:
    return Net(1000), PLAIN


def foreground() -> Any:
    """Foreground where red is above one half: logit = 8 red - 4, from the first of four feature maps."""
    features = nn.Sequential(pointwise([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], [0.0] * 4), nn.ReLU())
    return nn.Sequential(features, pointwise([[8.0, 0, 0, 0]], [-4.0])), {**PLAIN, "classes": ["lesion"]}


def layers_of_pixels() -> Any:
    """Two questions per pixel, of which both may be yes: red above one half, and red above one quarter."""
    return pointwise([[8.0, 0, 0], [8.0, 0, 0]], [-4.0, -2.0]), {**PLAIN, "reads": "sigmoid"}


def autoencoder() -> Any:
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, 2)), PLAIN


def depth() -> Any:
    return Ends(nn.Conv2d(3, 1, 3, 1, 1), lambda x: x.squeeze(1)), PLAIN  # type: ignore[arg-type]


def pyramid() -> Any:
    class Pyramid(Net):
        def forward(self, picture: Tensor) -> Any:
            large = self.features(picture)
            return [large, functional.max_pool2d(large, 2)]

    return Pyramid(), PLAIN


def boxes() -> Any:
    """Four numbers of a box and three scores for each of 3,136 places, as a YOLO of one stride."""
    return Ends(nn.Conv2d(3, 7, 4, 4), lambda x: x.flatten(2)), PLAIN  # type: ignore[arg-type]


class Siamese(Net):
    """Two pictures, one encoder: which class their difference is of."""

    def forward(self, left: Tensor, right: Tensor) -> Any:  # type: ignore[override]
        return self.fc((self.features(left) - self.features(right)).mean((2, 3)))


def siamese() -> Any:
    return Siamese(2), PLAIN


class Denoiser(Net):
    """As of diffusion: a timestep for each picture beside the noise."""

    def __init__(self) -> None:
        super().__init__(3)
        self.time, self.out = nn.Linear(8, 6), nn.ConvTranspose2d(6, 3, 4, 4)
        with torch.no_grad():
            for number, each in enumerate([*self.time.parameters(), *self.out.parameters()]):
                each.copy_(torch.randn(each.shape, generator=torch.Generator().manual_seed(number)) * 0.3)

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        waves = timestep[:, None].float() * torch.exp(-torch.arange(4, device=sample.device))
        found: Tensor = self.out(
            self.features(sample) + self.time(torch.cat([waves.sin(), waves.cos()], 1))[..., None, None]
        )
        return found


class Coder(Net):
    """A variational autoencoder: (picture, mean, spread)."""

    def __init__(self) -> None:
        super().__init__(4)
        self.spread, self.out = nn.Linear(6, 4), nn.Linear(4, 3 * 64 * 64)

    def forward(self, picture: Tensor) -> Any:
        mean, spread = self.fc(self.vector(picture)), self.spread(self.vector(picture))
        code = mean + torch.randn_like(mean) * torch.exp(0.5 * spread)
        return self.out(code).unflatten(1, (3, 64, 64)).sigmoid(), mean, spread


class Triplet(Net):
    """As it is trained to embed pictures: three of them, each embedded alone."""

    def embed(self, picture: Tensor) -> Tensor:
        return functional.normalize(self.fc(self.vector(picture)))

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Any:
        return self.embed(anchor), self.embed(positive), self.embed(negative)
