"""The built-in pictures, so that a first visit is one click long. Their licences are in assets/samples/CREDITS.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One built-in picture.

    Attributes:
        name: how it is asked for. file: its file in assets/samples.
        title, credit: for the page; the credit names the author and the licence.
    """

    name: str
    file: str
    title: str
    credit: str


SAMPLES = {
    sample.name: sample
    for sample in (
        Sample("coffee", "coffee.png", "A cup of coffee", "Rachel Michetti, Pikolo Espresso Bar; CC0"),
        Sample("chelsea", "chelsea.png", "Chelsea the cat", "Stefan van der Walt; CC0"),
        Sample("rocket", "rocket.jpg", "Falcon 9 lifts off", "SpaceX; public domain"),
        Sample("astronaut", "astronaut.png", "Astronaut Eileen Collins", "NASA; public domain"),
        Sample("camera", "camera.png", "A photographer, in grey", "Lav Varshney; CC0"),
    )
}
