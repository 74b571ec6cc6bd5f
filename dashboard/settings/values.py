"""The readers of settings: each turns text into a value, or says in a sentence what is needed instead."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from pathlib import Path

from hookscope.dashboard.sources.spec import OWN, is_spec, meant_by

HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")


LONGEST_SPEC = 400  # characters, as `page.view` reads them from an address
LONGEST_PREFIX = 200
FILES = r"\.(pt|pth|pt2|ckpt|bin|safetensors|pkl|onnx|h5|keras|tflite|engine|npz|py)$"  # that are no names of models
MOST_FRAMES = 64  # of a clip
LONGEST_OUTPUT = 200
LONGEST_SET = 40
MODEL_NAME = r"[A-Za-z0-9][\w.-]{0,39}"


class BadValue(ValueError):
    """A setting cannot be what was written; `str(error)` says what is needed."""


def image_folder(text: str) -> tuple[str, Path]:
    """A set's name and its folder, which has to be there; a folder alone is called by its own name."""
    name, equals, folder = text.partition("=")
    if not equals or Path(text).expanduser().is_dir():
        name, folder = Path(text).expanduser().resolve().name[:LONGEST_SET] or "/", text
    if not name.strip() or not folder.strip():
        raise BadValue("a name and a folder are needed, as in line-4=/data/line-4.")
    if len(name) > LONGEST_SET or not name.isprintable():
        raise BadValue(f"a name of at most {LONGEST_SET} printable characters is needed.")
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise BadValue("there is no such folder.")
    return name.strip(), path.resolve()


def feed_folder(text: str) -> tuple[str, Path]:
    """A run's name and the folder that a training writes it into, which need not be there yet."""
    name, _, place = text.partition("=")
    if not re.fullmatch(MODEL_NAME, name.strip()) or not place.strip():
        raise BadValue("a name of up to 40 letters, digits, '-', '_' and '.' is needed, as in monday=runs/monday.")
    return name.strip(), folder(place.strip())


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", text) or not low <= int(text) <= high:
            raise BadValue(f"a whole number from {low} to {high} is needed.")
        return int(text)

    return read


def one_of(*names: str) -> Callable[[str], str]:
    """A reader of one of a few names, in any case."""

    def read(text: str) -> str:
        if text.lower() not in names:
            raise BadValue(f"one of {', '.join(names)} is needed.")
        return text.lower()

    return read


def switch(text: str) -> bool:
    """Yes or no."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise BadValue("yes or no is needed.")


def model_spec(text: str) -> str:
    """A model's spec, behind a name of its own or not; whether it exists is for the worker to find out."""
    if len(text) > LONGEST_SPEC:
        raise BadValue(f"a model's name has at most {LONGEST_SPEC} characters.")
    name, _, spec = text.rpartition("=")
    if name and not re.fullmatch(MODEL_NAME, name):
        raise BadValue("a model's own name, before the =, has up to 40 letters, digits, '-', '_' and '.'.")
    if not is_spec(spec) and re.search(FILES, spec):
        raise BadValue(
            f"{spec} is a file, as it seems. A model is named like {OWN.written}, a function that builds it, and its "
            "weights are given beside it: --weights FILE."
        )
    if not is_spec(spec):
        raise BadValue(f"a model is named like {meant_by(spec)}, or {OWN.written} for one of your own.")
    return text


def existing_file(text: str) -> Path:
    """A file that is there and can be read."""
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            raise BadValue("that is a folder, and a file is needed.")
        with path.open("rb"):
            return path.resolve()
    except FileNotFoundError:
        raise BadValue(f"there is no such file (looked for {path.absolute()}).") from None
    except (OSError, ValueError) as error:
        raise BadValue(f"the file cannot be read ({getattr(error, 'strerror', None) or error}).") from None


def weights_file(text: str) -> str:
    """A file, or a folder of files, that is there; behind a # the name of a part of it."""
    name, _, part = text.partition("#") if not Path(text).expanduser().exists() else (text, "", "")
    path = Path(name).expanduser()
    found = path.resolve() if path.is_dir() else existing_file(name)
    return f"{found}#{part}" if part else str(found)


def folder(text: str) -> Path:
    """A folder, which need not be there yet."""
    try:
        path = Path(text).expanduser().absolute()
        if path.exists() and not path.is_dir():
            raise BadValue("that is a file, and a folder is needed.")
    except (OSError, RuntimeError) as error:
        raise BadValue(f"that cannot be a folder ({error}).") from None
    return path


def factory_arg(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise BadValue("NAME=VALUE is needed, such as num_classes=10.")
    return name.strip(), value.strip()


def size(text: str) -> tuple[int, int]:
    """Height and width in pixels, from "224" or "224x320"."""
    match = re.fullmatch(r"([0-9]{1,5})(?:\s*[x×,]\s*([0-9]{1,5}))?", text)
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not (1 <= height <= 4096 and 1 <= width <= 4096):
        raise BadValue("a size in pixels from 1 to 4096 is needed, such as 224 or 224x320 (height first).")
    return height, width


def resize(text: str) -> str:
    """A way to the model's size, or the length of the shorter side before the crop."""
    if text in ("crop", "squash", "pad", "none"):
        return text
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= 4096:
        raise BadValue("one of crop, squash, pad and none is needed, or a length in pixels from 1 to 4096.")
    return str(int(text))


def frames(text: str) -> int:
    """How many frames a model of clips takes at once."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_FRAMES:
        raise BadValue(f"a whole number from 1 to {MOST_FRAMES} is needed.")
    return int(text)


def pixel_range(text: str) -> int:
    """1 or 255."""
    if text not in ("1", "255"):
        raise BadValue("1 is needed, for pixels scaled to 0..1, or 255.")
    return int(text)


def per_channel(text: str) -> tuple[float, ...]:
    """One number for all three channels, or one for each of up to 16."""
    try:
        numbers = [float(part) for part in re.split(r"[,\s]+", text.strip())]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 16 or not all(map(math.isfinite, numbers)):
        raise BadValue("one number, or one per channel separated by commas, is needed, such as 0.485,0.456,0.406.")
    return tuple(numbers) * (3 if len(numbers) == 1 else 1)


def positive_per_channel(text: str) -> tuple[float, ...]:
    """Like `per_channel`, above zero, because pixels are divided by it."""
    numbers = per_channel(text)
    if min(numbers) <= 0:
        raise BadValue("numbers above 0 are needed, because pixels are divided by them.")
    return numbers


def output_path(text: str) -> str:
    """The place of a tensor in what a model returns."""
    if not re.fullmatch(r"[^\s/]+(/[^\s/]+)*", text) or len(text) > LONGEST_OUTPUT:
        raise BadValue("the place of an output is needed, such as logits, 1 or heads/age.")
    return text


def device(text: str) -> str:
    """A device by its form; whether this machine has it is for the worker to find out."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,2})?", text.lower()):
        raise BadValue("auto, cpu, cuda, cuda:N or mps is needed.")
    return text.lower()


def host(text: str) -> str:
    """An address or a host name, without scheme, port or path."""
    name = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not is_ip(name) and not HOST_NAME.fullmatch(name):
        raise BadValue("an address or a name is needed, without http:// and port, such as 127.0.0.1 or 0.0.0.0.")
    return name.lower().rstrip(".")


def url_prefix(text: str) -> str:
    """A path that begins and ends with a slash."""
    if len(text) > LONGEST_PREFIX:
        raise BadValue(f"a path of at most {LONGEST_PREFIX} characters is needed.")
    parts = [part for part in text.split("/") if part]
    if any(not re.fullmatch(r"[\w.~-]+", part, re.ASCII) or part in (".", "..") for part in parts):
        raise BadValue("a path of letters, digits, '-', '_', '.' and '~' is needed, such as /hookscope/.")
    return f"/{'/'.join(parts)}/" if parts else "/"


def token(text: str) -> str:
    """A secret that can stand in an address and in a cookie as it is."""
    if not re.fullmatch(r"[A-Za-z0-9._~-]{16,200}", text):
        raise BadValue("a token has 16 to 200 letters, digits, '-', '_', '.' and '~'.")
    return text


def is_ip(name: str) -> bool:
    """Whether a host is written as an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Whether only this computer reaches what listens on this address."""
    return name.lower() == "localhost" or (is_ip(name) and ipaddress.ip_address(name).is_loopback)
