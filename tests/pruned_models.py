"""Networks of which it is known what could go, and sets of pictures for them, as a test brings them."""

from __future__ import annotations

from pathlib import Path

import torch
from digits_models import digits, file_of, write_module

COUNT = 60  # digits of the set
DEAD = (3, 7, 11)  # channels of conv2 that are 0 whatever the picture
MODULE = f"""
    import os
    import time
    from pathlib import Path

    import torch
    from digits_net import HOW, plain
    from torch import nn


    def planted():
        net = plain()
        for each in {DEAD}:
            net.conv2.weight.data[each], net.conv2.bias.data[each] = 0, 0
        return net, HOW


    def slow(seconds=0.02):
        (Path(__file__).parent / "slow.pid").write_text(str(os.getpid()))
        net, how = planted()
        inner = net.forward

        def forward(pictures):
            time.sleep(seconds)
            return inner(pictures)

        net.forward = forward
        return net, how


    def colours():
        net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
        net[0].weight.data.zero_(), net[0].bias.data.zero_(), net[4].weight.data.fill_(0.0)
        net[4].bias.data.copy_(torch.tensor([0.0, 0.0, 0.0, 0.1]))  # of no colour
        for colour, channel in enumerate((1, 3, 4)):
            net[0].weight.data[channel, colour] = 1.0
            net[4].weight.data[colour, channel] = 1.0
        return net, {{**HOW, "classes": ["red", "green", "blue", "none"]}}


    def regions():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1)), {{**HOW, "classes": list("abcde")}}
"""


def write_models(folder: Path) -> Path:
    """Write the module `pruned_net` and two folders of pictures.

    "set" has a folder for each class, and one file that is no picture. Of "colours", 0.png is red, 1.png green, 2.png
    blue, 3.png red and so on.
    """
    write_module(folder)
    (folder / "pruned_net.py").write_text("\n".join(line[4:] for line in MODULE.splitlines()))
    pictures, classes = digits()
    for number in range(COUNT):
        place = folder / "set" / str(int(classes[number]))
        place.mkdir(parents=True, exist_ok=True)
        file_of(pictures[number], place / f"{number:03}.png")
    (folder / "set" / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    (folder / "colours").mkdir()
    for number in range(9):
        picture = torch.full((3, 16, 16), -1.0)
        picture[number % 3] = 0.2 + 0.1 * (number // 3)
        file_of(picture, folder / "colours" / f"{number}.png")
    return folder
