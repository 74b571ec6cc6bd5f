"""The table of settings: every flag with its reader, default, unit and help; `settings.py` reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hookscope.dashboard.settings import values
from hookscope.dashboard.sources.spec import DEFAULT_MODEL, how_written


@dataclass(frozen=True)
class Setting:
    """One row of the table of settings.

    Attributes:
        name: the field of `Settings`. flag: how it is written. read: text -> value, or `BadValue`.
        default_text: the default in words, where the value does not say it.
        repeatable: the flag may be given several times, and the variable holds a list.
    """

    name: str
    flag: str
    read: Callable[[str], object]
    default: object
    help: str
    unit: str = ""
    metavar: str = ""
    repeatable: bool = False
    is_switch: bool = False
    default_text: str = ""

    @property
    def variable(self) -> str:
        """The environment variable: --max-streams is HOOKSCOPE_MAX_STREAMS."""
        return "HOOKSCOPE_" + self.flag.removeprefix("--").upper().replace("-", "_")

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


TABLE: tuple[Setting, ...] = (
    Setting(
        "models",
        "--model",
        values.model_spec,
        (DEFAULT_MODEL,),
        f"a model to offer: {how_written()}",
        metavar="SPEC",
        repeatable=True,
    ),
    Setting(
        "weights",
        "--weights",
        values.existing_file,
        None,
        "weights of your own model, .safetensors or .pt",
        metavar="FILE",
    ),
    Setting(
        "labels",
        "--labels",
        values.existing_file,
        None,
        "class names of your own model, one per line in the order of its outputs",
        metavar="FILE",
    ),
    Setting(
        "factory_args",
        "--factory-arg",
        values.factory_arg,
        (),
        "a keyword argument for your own model's factory",
        metavar="NAME=VALUE",
        repeatable=True,
    ),
    Setting(
        "input_size",
        "--input-size",
        values.size,
        None,
        "what your own model takes: one number for a square, or HEIGHTxWIDTH",
        unit="pixels",
        metavar="SIZE",
        default_text="the model's own, else 224",
    ),
    Setting(
        "mean",
        "--mean",
        values.per_channel,
        None,
        "what is subtracted per channel: one number, or red,green,blue",
        unit="of pixels scaled to 0..1",
        metavar="R,G,B",
        default_text="the model's own, else ImageNet's",
    ),
    Setting(
        "std",
        "--std",
        values.positive_per_channel,
        None,
        "what each channel is divided by: one number, or red,green,blue",
        unit="of pixels scaled to 0..1",
        metavar="R,G,B",
        default_text="the model's own, else ImageNet's",
    ),
    Setting(
        "interpolation",
        "--interpolation",
        values.one_of("nearest", "bilinear", "bicubic", "lanczos"),
        None,
        "how pictures are resized for your own model: nearest, bilinear, bicubic or lanczos",
        metavar="NAME",
        default_text="the model's own, else bilinear",
    ),
    Setting(
        "device",
        "--device",
        values.device,
        "auto",
        "where models run: auto, cpu, cuda, cuda:N or mps",
        metavar="DEVICE",
    ),
    Setting(
        "workers",
        "--workers",
        values.whole_number(1, 64),
        1,
        "worker processes per model; each holds its own copy of the model",
        unit="processes",
        metavar="N",
    ),
    Setting(
        "threads",
        "--threads",
        values.whole_number(0, 1024),
        0,
        "threads of each worker; 0 shares the cores out between the workers",
        unit="threads",
        metavar="N",
    ),
    Setting(
        "host",
        "--host",
        values.host,
        "127.0.0.1",
        "address to listen on; any other than this computer's own asks visitors for the token",
        metavar="ADDRESS",
    ),
    Setting(
        "port",
        "--port",
        values.whole_number(0, 65535),
        8050,
        "port to listen on; 0 takes any free one",
        metavar="N",
    ),
    Setting(
        "url_prefix",
        "--url-prefix",
        values.url_prefix,
        "/",
        "path under which a proxy shows the page, for example /hookscope/",
        metavar="PATH",
    ),
    Setting(
        "token",
        "--token",
        values.token,
        "",
        "secret that visitors show once in the address",
        metavar="TEXT",
        default_text="none on this computer, else made at each start",
    ),
    Setting(
        "behind_auth_proxy",
        "--behind-auth-proxy",
        values.switch,
        False,
        "a proxy in front checks who visits, so make no token",
        is_switch=True,
    ),
    Setting(
        "allowed_hosts",
        "--allowed-host",
        values.host,
        (),
        "a further name under which the page may be asked for, such as a proxy's",
        metavar="NAME",
        repeatable=True,
    ),
    Setting(
        "cache_dir",
        "--cache-dir",
        values.folder,
        None,
        "where answers and inputs are kept",
        metavar="FOLDER",
        default_text="hookscope in the user's cache folder",
    ),
    Setting(
        "cache_limit_mb",
        "--cache-limit-mb",
        values.whole_number(1, 10_000_000),
        2000,
        "how much room cached answers may take; the least recently used leave first",
        unit="MB",
        metavar="N",
    ),
    Setting(
        "inputs_limit_mb",
        "--inputs-limit-mb",
        values.whole_number(1, 10_000_000),
        500,
        "how much room uploaded pictures may take; the least recently used leave first",
        unit="MB",
        metavar="N",
    ),
    Setting(
        "tensorboard_dir",
        "--tensorboard-dir",
        values.folder,
        None,
        "where visitors may write the shown layers for TensorBoard, each time into a new folder below it",
        metavar="FOLDER",
        default_text="nothing is written",
    ),
    Setting(
        "job_timeout_seconds",
        "--job-timeout-seconds",
        values.whole_number(1, 86_400),
        60,
        "how long a worker may say nothing while it computes, before it is restarted",
        unit="seconds",
        metavar="N",
    ),
    Setting(
        "load_timeout_seconds",
        "--load-timeout-seconds",
        values.whole_number(1, 86_400),
        300,
        "how long loading a model may go on without a sign of life",
        unit="seconds",
        metavar="N",
    ),
    Setting(
        "max_streams",
        "--max-streams",
        values.whole_number(1, 56),  # of the server's 64 threads, some must stay free for everything else
        40,
        "how many pages may wait for answers at once; the next one is told that the server is busy",
        unit="streams",
        metavar="N",
    ),
    Setting(
        "max_upload_mb",
        "--max-upload-mb",
        values.whole_number(1, 1000),
        50,
        "largest file that is taken as an input",
        unit="MB",
        metavar="N",
    ),
    Setting(
        "seed",
        "--seed",
        values.whole_number(0, 2**63 - 1),
        0,
        "where random weights start from, for models whose trained weights are not there",
        metavar="N",
    ),
    Setting(
        "open_browser",
        "--open",
        values.switch,
        False,
        "open the page in the browser once it is ready",
        is_switch=True,
    ),
)
