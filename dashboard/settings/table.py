"""What the operator can decide: one table, from which the command line, the variables and the documentation are read.

Each field of `Settings` carries what is to be known of it: how it is written, read, explained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

from hookscope.dashboard.settings import values
from hookscope.dashboard.sources.spec import DEFAULT_MODEL, how_written, name_of
from hookscope.hooks.methods import READINGS

PerModel = tuple[tuple[str, Any], ...]  # (a model's name, the value)


@dataclass(frozen=True)
class Setting:
    """One row of the table of settings.

    Attributes:
        name: the field of `Settings`. flag: how it is written. read: text -> value, or `BadValue`.
        default_text: the default in words, where the value does not say it.
        repeatable: the flag may be given several times. listed: and its variable holds a list.
        names: of a setting about one model: what stands between the model's name and the value; "" of the others.
        of_any: such a setting is for any model, and not for one's own alone.
        prepares: whether it changes how pictures are prepared, which can be changed of the default model, too.
        secret: it stays out of logs.
    """

    name: str
    flag: str
    read: Callable[[str], object]
    default: object
    help: str
    unit: str = ""
    metavar: str = ""
    repeatable: bool = False
    listed: bool = False
    is_switch: bool = False
    default_text: str = ""
    names: str = ""
    of_any: bool = False
    prepares: bool = False
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable: --max-streams is HOOKSCOPE_MAX_STREAMS."""
        return "HOOKSCOPE_" + self.flag.removeprefix("--").upper().replace("-", "_")

    @property
    def written(self) -> str:
        """What follows the flag, with words in capitals for what is to be filled in; "" for a switch."""
        return f"[MODEL{self.names}]{self.metavar}" if self.names else self.metavar

    @property
    def shown_default(self) -> str:
        """The default as people read it."""
        if self.default_text:
            return self.default_text
        if isinstance(self.default, tuple):
            return " ".join(map(str, self.default)) or "none"
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        return "none" if self.default is None else str(self.default)


def setting(default: Any, read: Callable[[str], object], help: str, *, names: str = "", **more: Any) -> Any:
    """A field of `Settings`; see `Setting` for the arguments."""
    listed = more.pop("repeatable", False)
    row = {"listed": listed, "repeatable": bool(listed or names), "names": names, "read": read, "help": help} | more
    return dataclasses.field(default=default, repr=not more.get("secret"), metadata=row)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator decided; 1 MB is 1,000,000 bytes.

    `Settings(cache_dir=folder)` is enough for a test; `parse` also makes a token where one is needed.

    Attributes:
        models: as they were written, "NAME=SPEC" or a spec alone. What is about one model is (its name, the value).
        input_size: (height, width). mean, std: (red, green, blue).
        url_prefix: begins and ends with a slash. token: "" if nobody is asked for one.
        tensorboard_dir: None if nobody may write there.
    """

    models: tuple[str, ...] = setting(
        (DEFAULT_MODEL,),
        values.model_spec,
        f"a model to offer, under a name of its own or not: {how_written()}",
        flag="--model",
        metavar="[NAME=]SPEC",
        repeatable=True,
    )
    weights: PerModel = setting(
        (),
        values.weights_file,
        "weights of your own model: .safetensors, .pt, an index or a folder; FILE#NAME takes one of several in a file",
        metavar="FILE",
        names="=",
    )
    allow_head: bool = setting(
        False,
        values.switch,
        "load weights whose last layer has another number of outputs; that layer is random then",
        is_switch=True,
    )
    labels: PerModel = setting(
        (),
        values.existing_file,
        "class names of your own model, one per line in the order of its outputs",
        metavar="FILE",
        names="=",
    )
    factory_args: PerModel = setting(
        (),
        values.factory_arg,
        "a keyword argument for your own model's factory",
        flag="--factory-arg",
        metavar="NAME=VALUE",
        names=":",
        listed=True,
    )
    input_size: PerModel = setting(
        (),
        values.size,
        "what the model takes: one number for a square, or HEIGHTxWIDTH",
        unit="pixels",
        metavar="SIZE",
        default_text="the model's own, else 224",
        names="=",
        prepares=True,
    )
    mean: PerModel = setting(
        (),
        values.per_channel,
        "what is subtracted per channel: one number, or red,green,blue; above 1 it is taken as of pixels up to 255",
        unit="of pixels scaled to 0..1, or by --range to 0..255",
        metavar="R,G,B",
        default_text="the model's own, else ImageNet's",
        names="=",
        prepares=True,
    )
    std: PerModel = setting(
        (),
        values.positive_per_channel,
        "what each channel is divided by: one number, or red,green,blue",
        unit="of pixels as for --mean",
        metavar="R,G,B",
        default_text="the model's own, else ImageNet's",
        names="=",
        prepares=True,
    )
    resize: PerModel = setting(
        (),
        values.resize,
        "how pictures get that size: crop (the shorter side resized, the centre cut out), squash, pad (black around), "
        "none; or the shorter side's length before the crop",
        metavar="WAY",
        default_text="the model's own, else crop",
        names="=",
        prepares=True,
    )
    channel_order: PerModel = setting(
        (),
        values.one_of("rgb", "bgr"),
        "the order of the channels that the model takes: rgb or bgr, as OpenCV reads",
        metavar="ORDER",
        default_text="the model's own, else rgb",
        names="=",
        prepares=True,
    )
    range: PerModel = setting(
        (),
        values.pixel_range,
        "the largest value of a pixel to which --mean and --std belong, 1 or 255; alone, pixels of that range",
        metavar="TOP",
        default_text="the model's own, else 1",
        names="=",
        prepares=True,
    )
    interpolation: PerModel = setting(
        (),
        values.one_of("nearest", "bilinear", "bicubic", "lanczos"),
        "how pictures are resized for the model: nearest, bilinear, bicubic or lanczos",
        metavar="NAME",
        default_text="the model's own, else bilinear",
        names="=",
        prepares=True,
    )
    output: PerModel = setting(
        (),
        values.output_path,
        "which of a model's outputs is its answer, by its place in what the model returns, such as logits or 1",
        metavar="NAME",
        default_text="the model's own, else what is found",
        names="=",
    )
    reads: PerModel = setting(
        (),
        values.one_of(*READINGS),
        f"what the numbers of a model's answer mean: {', '.join(READINGS)}",
        metavar="WAY",
        default_text="the model's own, else what is found",
        names="=",
    )
    baseline: PerModel = setting(
        (),
        values.existing_file,
        "a baseline saved by the library (hs.Baseline), against which sets can be held; pages see its date and size",
        metavar="FILE",
        names="=",
        of_any=True,
    )
    device: str = setting(
        "auto",
        values.device,
        "where models run: auto, cpu, cuda, cuda:N or mps",
        metavar="DEVICE",
    )
    workers: int = setting(
        1,
        values.whole_number(1, 64),
        "worker processes per model; each holds its own copy of the model",
        unit="processes",
        metavar="N",
    )
    threads: int = setting(
        0,
        values.whole_number(0, 1024),
        "threads of each worker; 0 shares the cores out between the workers",
        unit="threads",
        metavar="N",
    )
    host: str = setting(
        "127.0.0.1",
        values.host,
        "address to listen on; any other than this computer's own asks visitors for the token",
        metavar="ADDRESS",
    )
    port: int = setting(
        8050,
        values.whole_number(0, 65535),
        "port to listen on; 0 takes any free one",
        metavar="N",
    )
    url_prefix: str = setting(
        "/",
        values.url_prefix,
        "path under which a proxy shows the page, for example /hookscope/",
        metavar="PATH",
    )
    token: str = setting(
        "",
        values.token,
        "secret that visitors show once in the address",
        metavar="TEXT",
        default_text="none on this computer, else made at each start",
        secret=True,
    )
    behind_auth_proxy: bool = setting(
        False,
        values.switch,
        "a proxy in front checks who visits, so make no token",
        is_switch=True,
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        values.host,
        "a further name under which the page may be asked for, such as a proxy's",
        flag="--allowed-host",
        metavar="NAME",
        repeatable=True,
    )
    cache_dir: Path = setting(
        MISSING,
        values.folder,
        "where answers and inputs are kept",
        metavar="FOLDER",
        default_text="hookscope in the user's cache folder",
    )
    cache_limit_mb: int = setting(
        2000,
        values.whole_number(1, 10_000_000),
        "how much room cached answers may take; the least recently used leave first",
        unit="MB",
        metavar="N",
    )
    images: tuple[tuple[str, Path], ...] = setting(
        (),
        values.image_folder,
        "a folder of pictures to offer as a set to everybody who may open the page; it is only read",
        metavar="[NAME=]FOLDER",
        repeatable=True,
    )
    feeds: tuple[tuple[str, Path], ...] = setting(
        (),
        values.feed_folder,
        "a folder that a training writes with hs.follow, now or later, to be followed in the tab Run; it is only read. "
        "With --model NAME=SPEC of the same name its checkpoints are offered as models, NAME@STEP",
        flag="--feed",
        metavar="NAME=FOLDER",
        repeatable=True,
    )
    sets_limit_mb: int = setting(
        2000,
        values.whole_number(1, 10_000_000),
        "how much room sets of pictures that visitors bring may take, with the small copies and what was found of all "
        "sets; the least recently used leave first",
        unit="MB",
        metavar="N",
    )
    inputs_limit_mb: int = setting(
        500,
        values.whole_number(1, 10_000_000),
        "how much room uploaded pictures may take; the least recently used leave first",
        unit="MB",
        metavar="N",
    )
    models_limit_mb: int = setting(
        8000,
        values.whole_number(1, 10_000_000),
        "how much room loaded models may take, their weights and 450 MB for the process of each; "
        "the least recently used are unloaded first",
        unit="MB",
        metavar="N",
    )
    tensorboard_dir: Path | None = setting(
        None,
        values.folder,
        "where visitors may write the shown layers for TensorBoard, each time into a new folder below it",
        metavar="FOLDER",
        default_text="nothing is written",
    )
    job_timeout_seconds: int = setting(
        60,
        values.whole_number(1, 86_400),
        "how long a worker may say nothing while it computes, before it is restarted",
        unit="seconds",
        metavar="N",
    )
    load_timeout_seconds: int = setting(
        300,
        values.whole_number(1, 86_400),
        "how long loading a model may go on without a sign of life",
        unit="seconds",
        metavar="N",
    )
    max_streams: int = setting(
        40,
        values.whole_number(1, 56),
        "how many pages may wait for answers at once; the next one is told that the server is busy",
        unit="streams",
        metavar="N",
    )
    max_upload_mb: int = setting(
        50,
        values.whole_number(1, 1000),
        "largest file that is taken as an input",
        unit="MB",
        metavar="N",
    )
    seed: int = setting(
        0,
        values.whole_number(0, 2**63 - 1),
        "where random weights start from, for models whose trained weights are not there",
        metavar="N",
    )
    open_browser: bool = setting(
        False,
        values.switch,
        "open the page in the browser once it is ready",
        flag="--open",
        is_switch=True,
    )

    @property
    def names(self) -> tuple[str, ...]:
        """What the models are called."""
        return tuple(map(name_of, self.models))


def _row(field: dataclasses.Field[Any]) -> Setting:
    known: dict[str, Any] = {"flag": f"--{field.name.replace('_', '-')}"} | dict(field.metadata)
    return Setting(name=field.name, default=None if field.default is MISSING else field.default, **known)


TABLE = tuple(map(_row, dataclasses.fields(Settings)))
