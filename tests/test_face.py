"""`import hookscope as hs`: the names that most people need, and nothing imported before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest
from checkout import ENVIRON

import hookscope as hs

# Pinned: a name that goes breaks somebody's notebook, one that comes is a promise.
NAMES = {
    *("Against", "Box", "Diagnostics", "HooksError", "Mask", "Numbers", "attention_maps", "attribute_input"),
    *("bottlenecks", "likeness", "effects"),
    *("capture", "compare", "describe", "find_anomalies", "gradients", "information_flow", "layer_map", "live_hooks"),
    *("looking", "parting", "parting_calibration", "ranked_channels", "restore", "restore_parts", "rollout", "select"),
    *("stream", "survey"),
    *("answers", "features", "gap", "read_sweep", "statistics", "sweep", "top"),
    *("importance", "prune_curve"),
    *("embed", "information"),
    *("Baseline", "profiles"),
    *("levels", "tell_apart", "vectors"),
    *("follow", "read_feed"),
    *("assert_healthy", "check"),
    *("open_model", "panel", "show"),
    *("edit", "level", "mute", "patch", "replace", "scale"),
}


def test_these_names_and_no_others() -> None:
    assert set(hs.__all__) == NAMES and set(dir(hs)) >= NAMES
    assert {*hs._HOME, *hs._SHOWN_BY} == NAMES and not hs._HOME.keys() & hs._SHOWN_BY.keys()
    for name in NAMES:
        found = getattr(hs, name)
        assert found.__name__ == name and found.__doc__, name
        place = f"hooks.{hs._HOME[name]}" if name in hs._HOME else f"dashboard.{hs._SHOWN_BY[name]}"
        assert found.__module__ == f"hookscope.{place}"


@pytest.mark.parametrize("name", ["huggingface", "lightning", "mlflow", "wandb"])
def test_modules_for_other_libraries_are_named_and_not_starred(name: str) -> None:
    assert set(hs._MODULES) == {"huggingface", "lightning", "mlflow", "wandb"}
    assert name in dir(hs) and name not in hs.__all__
    module = getattr(hs, name)  # mlflow and wandb are imported when something is logged
    assert module.__name__ == f"hookscope.hooks.training.{name}" and module.__doc__


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'captures'; it has .*capture, check, compare"):
        hs.captures  # noqa: B018
    with pytest.raises(ImportError):
        from hookscope import captures  # noqa: F401


def test_importing_it_takes_no_torch_and_no_page() -> None:
    code = "import sys, hookscope as hs; dir(hs); print([n for n in ('torch', 'numpy', 'dash') if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_example_of_its_docstring_runs() -> None:
    import torch
    from torch import nn

    model, picture = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8)
    with hs.capture(model, ["0"]) as seen:
        model(picture)
    assert seen["0"].value.shape == (1, 4, 6, 6)
