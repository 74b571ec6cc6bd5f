"""The built-in pictures: a first visit is one click long, and distances between layers are measured against them.

Their licences are in assets/samples/CREDITS.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One built-in picture.

    Attributes:
        name: how it is asked for. file: its file in assets/samples.
        title, credit: for the page; the credit names the author and the licence.
        crop_of: the name of the sample that it is a part of; "" for a photograph of its own.
    """

    name: str
    file: str
    title: str
    credit: str
    crop_of: str = ""


_NO_RESTRICTIONS = "no known copyright restrictions"
SAMPLES = {
    sample.name: sample
    for sample in (
        Sample("coffee", "coffee.png", "A cup of coffee", "Rachel Michetti, Pikolo Espresso Bar; CC0"),
        Sample("chelsea", "chelsea.png", "Chelsea the cat", "Stefan van der Walt; CC0"),
        Sample("rocket", "rocket.jpg", "Falcon 9 lifts off", "SpaceX; public domain"),
        Sample("astronaut", "astronaut.png", "Astronaut Eileen Collins", "NASA; public domain"),
        Sample("camera", "camera.png", "A photographer, in grey", "Lav Varshney; CC0"),
        Sample("raccoon", "raccoon.jpg", "A raccoon in the grass", "public-domain-image.com; public domain"),
        Sample("hopper", "hopper.jpg", "Rear Admiral Grace Hopper", "James S. Davis, US Navy; public domain"),
        Sample("stairs", "stairs.jpg", "Stairs, in grey", "public-domain-image.com; public domain"),
        Sample("coins", "coins.jpg", "Greek coins, in grey", f"Brooklyn Museum; {_NO_RESTRICTIONS}"),
        Sample("clock", "clock.jpg", "A clock, blurred by motion, in grey", "Stefan van der Walt; public domain"),
        Sample("brick", "brick.jpg", "A brick wall, in grey", "CC0Textures; CC0"),
        Sample("grass", "grass.jpg", "Grass, in grey", "linolafett; CC0"),
        Sample("gravel", "gravel.jpg", "Gravel, in grey", "CC0Textures; CC0"),
        Sample("galaxies", "galaxies.jpg", "Galaxies, Hubble's eXtreme Deep Field", "NASA; public domain"),
        Sample("retina", "retina.jpg", "The retina of an eye", "Mikael Häggström; CC0"),
        Sample("tissue", "tissue.jpg", "Stained tissue under the microscope", f"CMMI; {_NO_RESTRICTIONS}"),
        Sample("cell", "cell.jpg", "A cell under the microscope, in grey", "Paul Müller and others; CC0"),
        Sample("text", "text.jpg", "A page of handwriting, in grey", "Wikipedia's Corner.png; public domain"),
        Sample("coffee-cup", "coffee-cup.png", "Part of the cup of coffee", "Rachel Michetti; CC0", "coffee"),
        Sample("chelsea-face", "chelsea-face.png", "Part of Chelsea", "Stefan van der Walt; CC0", "chelsea"),
        Sample("astronaut-helmet", "astronaut-helmet.png", "The helmet", "NASA; public domain", "astronaut"),
        Sample("camera-tripod", "camera-tripod.png", "The camera, in grey", "Lav Varshney; CC0", "camera"),
        Sample(
            "raccoon-face",
            "raccoon-face.png",
            "The raccoon's face",
            "public-domain-image.com; public domain",
            crop_of="raccoon",
        ),
    )
}
PHOTOGRAPHS = tuple(sample.name for sample in SAMPLES.values() if not sample.crop_of)  # each of another subject
