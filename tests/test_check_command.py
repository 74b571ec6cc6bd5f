"""`python -m hookscope check`: exit codes, what every report says, and what can never count as a pass."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import test_structure
from checkout import ENVIRON, ROOT
from PIL import Image
from test_packaging import INSTALLED_NAMES, requirements

import hookscope as hs
from hookscope.dashboard.checking import arguments, command, configuration, examining, reports
from hookscope.dashboard.checking.links import link_of
from hookscope.dashboard.page.view import View
from hookscope.dashboard.settings.table import TABLE
from hookscope.hooks.doctor import check, patient
from hookscope.hooks.doctor.patient import CannotTell, Patient
from hookscope.hooks.errors import HooksError
from hookscope.hooks.methods import Rows
from hookscope.hooks.results.findings import Checked, CheckUp, Finding
from hookscope.hooks.rules import RULES, Rule

NETS = """
import sys
import torch
from torch import nn


def make(**given):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    told = {"input_size": 16, "mean": 0.5, "std": 0.5, "classes": ["cat", "dog", "owl"], "title": "tiny"}
    return module, {**told, **given}


def bad():
    module, settings = make()
    with torch.no_grad():
        module[0].weight[2] = float("nan")
    return module, settings


def broken():
    raise ValueError("the disk is full")


def leaving():
    sys.exit(0)


class Ended(BaseException):
    pass


def ended():
    raise Ended("for good")


class Falling(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = make()[0]

    def forward(self, x):
        if x.std() < 0.9:  # noise has more
            raise RuntimeError("too little noise")
        return self.inner(x)


def falling():
    return Falling(), make()[1]


class Alone(Falling):
    def forward(self, x):
        assert len(x) == 1
        return self.inner(x)


def alone():
    print("built")
    return Alone(), make()[1]
"""


@dataclass(frozen=True)
class Planted(Rule):
    """A rule of the test's own."""

    does: Callable[[Patient], Iterable[Finding]] = lambda patient: ()

    def examine(self, patient: Any) -> Iterable[Finding]:
        """What the test says."""
        return self.does(patient)


def planted(name: str, does: Callable[[Patient], Iterable[Finding]], **more: Any) -> Planted:
    return Planted(name, name, "warning", "", "", "", {"share": 0.25, "second": 2.0}, pictures=0, does=does, **more)


def quiet(patient: Patient) -> Iterator[Finding]:
    patient.found["silent: looked at"] = f"Over {patient.pictures} pictures."
    yield from ()


def dead(patient: Patient) -> Iterator[Finding]:
    yield Finding(
        "dead",
        "warning",
        "3 of 4 channels fired in none (limit 25 %).",
        why="They do nothing.",
        advice="Train longer.",
        layer="1",
        channels=(0, 2, 3),
        value=0.75,
        limit=patient.limit("dead"),
        excess=3.0,
        rank="zeros",
        picture=1,
    )


def untold(patient: Patient) -> Iterator[Finding]:
    raise CannotTell("There is no baseline.")
    yield


def crash(patient: Patient) -> Iterator[Finding]:
    raise ZeroDivisionError("by a rule")
    yield


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the check-up go through other rules."""

    def replace(*rules: Rule, **does: Callable[[Patient], Iterable[Finding]]) -> None:
        rows = Rows(*rules, *(planted(name, each) for name, each in does.items()))
        for module in (check, patient, examining, reports):
            monkeypatch.setattr(module, "RULES", rows)

    return replace


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of its own, in which one is."""
    (tmp_path / "checked_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "checked_nets", raising=False)
    return tmp_path


def pictures(folder: Path, *names: str) -> Path:
    """A folder with a picture of each name, each another one."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(values).save(path)
    return folder


def run(*given: object, environ: Mapping[str, str] | None = None) -> int:
    return command.main([str(each) for each in given], environ or {})


OWN = ("--model", "checked_nets:make")


def refusal(capsys: pytest.CaptureFixture[str], *given: object, environ: Mapping[str, str] | None = None) -> str:
    """The one sentence on stderr with which a check-up ends that cannot be made."""
    assert run(*given, environ=environ) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("hookscope: ") and "Traceback" not in err
    return err.removeprefix("hookscope: ").strip()


# --- exit codes and the last line


def test_a_healthy_model_is_0_and_the_last_line_says_how_much_was_looked_at(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plant(silent=quiet, other=untold)
    assert run(*OWN, "--images", pictures(project / "line", "a.png", "b.png")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0] == "tiny, 2 pictures of line"
    assert "  silent (ok): Over 2 pictures." in out and "  other: There is no baseline." in out
    assert out.splitlines()[-1] == "nothing found by 1 rule over 2 pictures; 1 rule not checked, see above"


def test_a_finding_is_1_and_the_last_line_has_rule_layer_number_and_limit(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plant(silent=quiet, dead=dead)
    assert run(*OWN) == 1
    out, _ = capsys.readouterr()
    wanted = "warning: dead at 1: 3 of 4 channels fired in none (limit 25 %). (value 0.75, limit 0.25)"
    assert out.splitlines()[-1] == wanted
    assert (
        "    Train longer." in out
        and out.splitlines()[0] == "tiny, 18 built-in photographs, because no folder was named"
    )


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ([], 1),
        (["--fail-on", "error"], 0),
        (["--fail-on", "note"], 1),
        (["--rule", "dead=note"], 0),
        (["--rule", "dead=note", "--fail-on", "note"], 1),
        (["--rule", "dead=error", "--fail-on", "error"], 1),
        (["--rule", "dead=off"], 0),
    ],
)
def test_what_fails_follows_from_the_severity(
    project: Path, plant: Callable[..., None], given: list[str], code: int
) -> None:
    plant(silent=quiet, dead=dead)
    assert run(*OWN, "--pictures", 1, *given) == code


def test_a_limit_reaches_the_rule(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plant(dead=dead)
    run(*OWN, "--pictures", 1, "--limit", "dead=0.5", "--limit", "dead.second=3")
    assert capsys.readouterr().out.strip().endswith("(value 0.75, limit 0.5)")


def test_a_rule_that_comes_to_no_end_is_no_pass(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plant(silent=quiet, crashing=crash)
    assert run(*OWN, "--pictures", 1) == 2
    out, err = capsys.readouterr()
    assert err.startswith("hookscope: The rule crashing came to no end. ZeroDivisionError: by a rule. Mend what")
    assert out.splitlines()[-1].startswith("could not be checked: The rule crashing")
    assert run(*OWN, "--pictures", 1, "--rule", "crashing=off") == 0
    plant(dead=dead, crashing=crash)
    assert run(*OWN, "--pictures", 1) == 1


def test_where_every_rule_is_off_or_cannot_tell_nothing_is_known(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plant(silent=quiet, other=untold)
    assert run(*OWN, "--pictures", 1, "--rule", "silent=off") == 2
    assert capsys.readouterr().err == "hookscope: No rule could be checked, so nothing is known.\n"


# --- what cannot be checked


def test_bad_arguments(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, sentence in [
        (["--port", "80"], "--port is an option of the page, and a check-up opens none. Leave it out."),
        (["--max-streams=3"], "--max-streams is an option of the page, and a check-up opens none. Leave it out."),
        (["--imagse", "x"], "There is no option --imagse. Did you mean --images?"),
        (["folder"], "There is no argument 'folder': each stands behind its option."),
        (["--json"], "--json needs a value."),
        (["--update-baseline"], "--update-baseline writes the file that --baseline names, and none is named."),
        (["--fail-on", "bad"], "--fail-on is 'bad': one of error, warning, note is needed."),
        (["--pictures", "0"], "--pictures is '0': a whole number from 1 to 1000 is needed."),
        (["--rule", "dead"], "--rule is 'dead': a name and a value are needed, as in --rule dead-channels=off."),
        (["--limit", "dead-channels=much"], "A limit is a number, and dead-channels was given 'much'."),
        (["--limit", "dead-channels=nan"], "A limit is a number, and dead-channels was given 'nan'."),
        (["--images", "nowhere"], "--images is 'nowhere': there is no such folder."),
        (["--images", ".", "--images", "."], "A check-up is of one folder, and --images names 2. Check each alone."),
        (
            ["--model", "a.b:c", "--model", "d.e:f"],
            "A check-up is of one model, and 2 are named (a.b:c, d.e:f). Check each alone.",
        ),
        (["--model", "net.pt"], "--model is 'net.pt': net.pt is a file, as it seems."),
        (["--output", "logits"], "--output is meant for a model of your own: name it with --model."),
        (["--rules", "--fail-on", "note"], "--rules prints the table of all rules, and stands alone."),
        (["--baseline", "nowhere.json"], f"There is no baseline {project / 'nowhere.json'}. Write one with"),
        (["--json", "no/such/folder.json"], "The report no/such/folder.json cannot be written (No such file"),
    ]:
        assert refusal(capsys, *given).startswith(sentence)


def test_two_reports_cannot_both_go_to_the_standard_output(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", "-", "--junit", "-") == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == "--json and --junit cannot both go to the standard output. Give one a file."
    assert err == f"hookscope: {json.loads(out)['error']}\n"


def test_a_rule_or_limit_that_there_is_not(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, sentence in [
        (["--rule", "dead-chanels=off"], "There is no rule 'dead-chanels'. There are: preprocessing"),
        (["--rule", "dead-channels=bad"], "A rule is off, error, warning or note, and dead-channels was given 'bad'."),
        (["--limit", "preprocessing.most=3"], "The rule preprocessing has no limit 'most'; it has ratio"),
    ]:
        assert refusal(capsys, *OWN, *given).startswith(sentence)


def test_a_model_that_cannot_be_loaded(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, sentence in [
        ("missing", "checked_nets has no 'missing'."),
        ("broken", "checked_nets:broken failed: ValueError: the disk is full. It was raised in checked_nets.py, line "),
        ("leaving", "The model's own code ended the program (0), so nothing was checked."),
        ("ended", "The check-up failed: Ended: for good."),
        ("falling", "The model loads, and fails at a picture: RuntimeError: too little noise."),
    ]:
        assert refusal(capsys, "--model", f"checked_nets:{name}").startswith(sentence)
    assert refusal(capsys, "--model", "nowhere:make").startswith("There is no module 'nowhere' in ")
    assert refusal(capsys, "--model", "torchvision:resnet17").startswith("torchvision has no model 'resnet17'.")


def test_a_weight_file_that_fits_in_part(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from torch import nn

    torch.save({"0.weight": torch.zeros(4, 3, 3, 3), "0.bias": torch.zeros(4)}, project / "part.pt")
    assert "4.weight" in refusal(capsys, *OWN, "--weights", "part.pt")
    other_head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Identity(), nn.Flatten(), nn.Linear(4, 7))
    torch.save(other_head.state_dict(), project / "head.pt")
    assert "--allow-head" in refusal(capsys, *OWN, "--weights", "head.pt")
    plant(silent=quiet)
    assert run(*OWN, "--weights", "head.pt", "--allow-head", "--pictures", 1) == 0


def test_a_model_that_takes_one_picture_at_a_time_is_given_one(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: list[int] = []

    def count(patient: Patient) -> Iterator[Finding]:
        sizes.extend(map(len, patient.batches))
        yield from ()

    plant(silent=count)
    folder = pictures(project / "line", "a.png", "b.png", "c.png")
    assert run("--model", "checked_nets:alone", "--images", folder) == 0
    out, err = capsys.readouterr()
    assert sizes == [1, 1, 1] and "built" not in out and err == "built\n"  # the model's own words are no report


def test_folders_without_a_picture(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "empty").mkdir()
    assert refusal(capsys, *OWN, "--images", "empty") == (
        f"There is no picture in {project / 'empty'}. It holds no file that may be one."
    )
    broken = project / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"no picture")
    (broken / "b.jpg").write_text("neither")
    sentence = refusal(capsys, *OWN, "--images", "broken")
    assert sentence.startswith("None of the 2 files of broken can be looked at. Of ")
    os.symlink(broken / "a.png", project / "empty" / "a.png")
    assert refusal(capsys, *OWN, "--images", "empty").endswith("Of a.png: It is a link, and links are not followed.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "closed").mkdir(mode=0o000)
    assert refusal(capsys, *OWN, "--images", "closed").endswith("cannot be read (Permission denied).")


def test_a_broken_picture_is_named_and_the_rest_is_used(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plant(silent=quiet)
    folder = pictures(project / "line", "a.png", "b.png", "long.png")
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:60])
    Image.new("RGB", (3000, 2)).save(folder / "long.png")
    assert run(*OWN, "--images", folder) == 0
    out = capsys.readouterr().out
    assert "tiny, 2 pictures of line" in out and "2 files left out:" in out
    assert "  c.png: This picture is damaged" in out and "  long.png: This picture is 3,000 x 2 pixels" in out


# --- which pictures


def draw(folder: Path, most: int) -> list[str]:
    """The pictures that a check-up looks at, by their places in the folder."""
    from hookscope.dashboard.checking.pictures import draw

    chosen = draw(("line", folder), most).candidates[:most]
    return [each.path.relative_to(folder).as_posix() for each in chosen]


def test_pictures_are_drawn_evenly_over_classes_and_always_the_same(tmp_path: Path) -> None:
    names = [f"{group}/{number}.png" for group in ("a", "b", "c") for number in range(30)]
    folder = pictures(tmp_path / "one", *names, *(f"rare/{number}.png" for number in range(2)))
    chosen = draw(folder, 32)
    counts = {group: sum(each.startswith(f"{group}/") for each in chosen) for group in ("a", "b", "c", "rare")}
    assert counts == {"a": 10, "b": 10, "c": 10, "rare": 2} and len(set(chosen)) == 32
    assert chosen != sorted(chosen)  # not the first of each, which may be one scene
    again = tmp_path / "elsewhere"
    shutil.copytree(folder, again)
    for path in again.rglob("*.png"):
        os.utime(path, (1, 1))
    assert draw(again, 32) == chosen and draw(folder, 8) == chosen[:8]


def test_of_a_large_folder_the_same_are_kept_as_if_all_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(500):
        (folder / f"{number}.png").write_bytes(b"x")
    whole = draw(folder, 20)
    monkeypatch.setattr("hookscope.dashboard.checking.pictures.SPARE", 2)
    assert draw(folder, 20) == whole


def labels_of(project: Path, plant: Callable[..., None], *given: object) -> list[int]:
    found: list[int] = []

    def look(patient: Patient) -> Iterator[Finding]:
        found.extend(patient.labels.tolist())
        yield from ()

    plant(silent=look)
    assert run(*OWN, *given) == 0
    return found


def test_labels_come_from_folders_a_table_or_numbers(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(project / "named", "cat/1.png", "owl/2.png", "cow/3.png")
    assert sorted(labels_of(project, plant, "--images", folder)) == [-1, 0, 2]
    table = pictures(project / "table", "1.png", "2.png")
    (table / "labels.csv").write_text("1.png,dog\n2.png,owl\n")
    assert sorted(labels_of(project, plant, "--images", table)) == [1, 2]
    numbers = pictures(project / "numbers", "0/1.png", "7/2.png")  # 7 is no class: that is for the rules to find
    assert sorted(labels_of(project, plant, "--images", numbers)) == [0, 7]
    capsys.readouterr()
    strange = pictures(project / "strange", "horse/1.png", "pig/2.png")
    assert labels_of(project, plant, "--images", strange) == [-1, -1]
    assert "The pictures are said to show horse, pig, and no class of the model is called so" in capsys.readouterr().out


def test_the_model_is_given_what_the_page_gives_it_and_the_same_in_other_ways(
    project: Path, plant: Callable[..., None]
) -> None:
    import torch

    seen: dict[str, torch.Tensor] = {}

    def look(patient: Patient) -> Iterator[Finding]:
        seen["own"] = torch.cat(list(patient.batches))
        for text in ("unit", "bgr", "bytes", "twice", "imagenet", "grey", "8x12", "bgr,unit"):
            assert patient.otherwise is not None
            seen[text] = torch.cat(list(patient.otherwise(text)))
        yield from ()

    plant(silent=look)
    folder = project / "line"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)  # of the model's size: nothing is resized
    Image.fromarray(values).save(folder / "a.png")
    assert run(*OWN, "--resize", 16, "--images", folder) == 0
    unit = torch.from_numpy(values / 255).permute(2, 0, 1)[None].float()
    own = (unit - 0.5) / 0.5
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for text, wanted in {
        "own": own,
        "unit": unit,
        "bgr": own.flip(1),
        "bytes": unit * 255,
        "twice": (own - 0.5) / 0.5,
        "imagenet": (unit - mean) / std,
        "bgr,unit": unit.flip(1),
    }.items():
        assert torch.allclose(seen[text], wanted, atol=1e-4), text
    assert seen["8x12"].shape == (1, 3, 8, 12) and (seen["grey"][:, 0] == seen["grey"][:, 1]).all()


def test_a_way_in_which_pictures_cannot_be_prepared_is_no_crash(project: Path, plant: Callable[..., None]) -> None:
    told: list[str] = []

    def look(patient: Patient) -> Iterator[Finding]:
        assert patient.otherwise is not None
        try:
            patient.otherwise("larger")
        except HooksError as error:
            told.append(str(error))
        patient.otherwise("larger")
        yield from ()

    plant(silent=quiet, other=look)
    assert run(*OWN, "--pictures", 1, "--input-size", 1500) == 0
    assert told and told[0].startswith("A picture of 3000 x 3000 pixels is more than")


# --- a baseline


@pytest.fixture
def stored(project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> list[object]:
    """The arguments with which a model is held against a baseline that was just written of it."""
    plant(RULES["baseline"], silent=quiet)
    folder = pictures(project / "line", *(f"{number}.png" for number in range(9)))
    given: list[object] = [*OWN, "--images", folder, "--baseline", "usual.json"]
    assert run(*given, "--update-baseline") == 0
    assert f"  baseline: It was written anew, to {project / 'usual.json'}." in capsys.readouterr().out
    return given


def test_the_same_is_as_it_was_and_other_weights_are_told_with_the_baselines_date(
    project: Path, stored: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*stored) == 0
    assert "  baseline (ok): " in capsys.readouterr().out
    made = json.loads((project / "usual.json").read_text())["made"]
    text = NETS.replace("    told = {", "    with torch.no_grad():\n        module[4].weight[1] += 0.5\n    told = {")
    (project / "moved_nets.py").write_text(text)
    assert run(*stored, "--model", "moved_nets:make", "--json", "found.json") == 2  # two are named
    assert run("--model", "moved_nets:make", *stored[2:], "--json", "found.json") == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("error: baseline at 4: ") and f"baseline of {made})" in out
    assert json.loads((project / "found.json").read_text())["findings"][0]["layer"] == "4"
    assert run("--model", "moved_nets:make", *stored[2:], "--rule", "baseline=off") == 0


def test_a_baseline_that_cannot_be_held_against_is_no_pass(
    project: Path, stored: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "usual.json"
    text = path.read_text()
    (project / "wide_nets.py").write_text(NETS.replace("(3, 4, 3)", "(3, 5, 3)").replace("(4, 3)", "(5, 3)"))
    assert "is of another model" in refusal(capsys, "--model", "wide_nets:make", *stored[2:])
    told = json.loads(text)
    path.write_text(json.dumps(told | {"format": "hookscope baseline 99"}))
    assert str(path) in refusal(capsys, *stored)
    path.write_text(text[: len(text) // 2])
    assert str(path) in refusal(capsys, *stored)
    path.write_text("[]")
    assert str(path) in refusal(capsys, *stored)
    path.write_text(text)
    (numbers,) = project.glob("baseline-*.safetensors")
    numbers.write_bytes(numbers.read_bytes()[:-4])
    assert "safetensors" in refusal(capsys, *stored)
    numbers.unlink()
    assert "safetensors" in refusal(capsys, *stored)
    path.unlink()
    path.mkdir()
    assert refusal(capsys, *stored) == f"The baseline {path} cannot be read (Is a directory)."


def test_a_baseline_that_cannot_be_written_is_told(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plant(RULES["baseline"], silent=quiet)
    given = [*OWN, "--baseline", "no/such/usual.json", "--update-baseline"]
    assert refusal(capsys, *given).startswith("The baseline cannot be written to ")
    assert "A baseline of 3 pictures says nothing" in refusal(
        capsys, *OWN, "--baseline", "usual.json", "--update-baseline", "--pictures", 3
    )


# --- files


def test_json_is_as_documented(project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    def endless(patient: Patient) -> Iterator[Finding]:
        yield Finding("endless", "error", "It grows.", layer="0", value=float("inf"), picture=0)

    plant(dead=dead, endless=endless, silent=quiet, other=untold)
    assert run(*OWN, "--json", "found.json") == 1
    told = json.loads((project / "found.json").read_text())
    assert list(told) == ["hookscope", "model", "pictures", "findings", "checked"]
    assert (told["hookscope"], told["model"], told["pictures"]) == (1, "tiny", 18)
    first, second = told["findings"]
    assert first["rule"] == "endless" and first["value"] == "inf" and first["limit"] is None
    assert second | {"link": ""} == {
        "rule": "dead",
        "severity": "warning",
        "layer": "1",
        "channels": [0, 2, 3],
        "sentence": "3 of 4 channels fired in none (limit 25 %).",
        "value": 0.75,
        "limit": 0.25,
        "advice": "Train longer.",
        "link": "",
    }
    assert [(each["rule"], each["status"]) for each in told["checked"]] == [
        *(("dead", "found"), ("endless", "found"), ("silent", "ok"), ("other", "skipped"))
    ]
    assert told["checked"][2]["why"] == "Over 18 pictures. Over the built-in photographs, because no folder was named."
    assert told["checked"][3]["why"] == "There is no baseline."
    capsys.readouterr()
    assert run(*OWN, "--json", "-") == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == told and err.splitlines()[-1].startswith("error: endless at 0: It grows.")


def test_a_link_opens_the_layer_its_channel_and_the_picture(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    import hookscope.dashboard.panels  # noqa: F401  # which gives every view its panels' states
    from hookscope.dashboard.page.reading import Walls

    plant(dead=dead)
    run(*OWN, "--json", "found.json")
    view = View.from_query(json.loads((project / "found.json").read_text())["findings"][0]["link"])
    assert (view.model, view.set_a, view.a) == ("checked_nets:make", "set-reference", "sample-chelsea")
    assert (view.layers, view.detail, view.channel, view.tab) == (("1",), "1", 0, "layers")
    assert view.of(Walls).rank == "zeros"
    second = Finding("dead", "warning", "x", layer="1", call=1)
    assert View.from_query(link_of(second, "m", "set-x")).layers == ("1:1",)
    for about in ("model", "answer", "input"):
        whole = Finding("training-mode", "error", "x", about=about)  # type: ignore[arg-type]
        assert View.from_query(link_of(whole, "m", "set-x")).tab == "findings"


def test_the_link_to_a_folder_names_the_set_as_a_page_started_with_the_same_option_does(
    project: Path, plant: Callable[..., None]
) -> None:
    from hookscope.dashboard.sets.store import key_of
    from hookscope.dashboard.settings.parse import parse

    plant(dead=dead)
    pictures(project / "line 4", "a.png")
    for text in ("line 4", "fourth=line 4"):
        run(*OWN, "--images", text, "--json", "found.json")
        link = json.loads((project / "found.json").read_text())["findings"][0]["link"]
        ((name, _),) = parse(["--images", text], {}).images
        view = View.from_query(link)
        assert (view.set_a, view.a) == (key_of(name), "")


def test_junit_has_a_case_for_each_rule(project: Path, plant: Callable[..., None]) -> None:
    def mild(patient: Patient) -> Iterator[Finding]:
        yield Finding("mild", "note", "A <note> & a bell \x07.", layer="0")

    plant(dead=dead, mild=mild, silent=quiet, other=untold, crashing=crash)
    assert run(*OWN, "--pictures", 1, "--junit", "found.xml") == 1
    (suite,) = ElementTree.parse(project / "found.xml").getroot()
    assert suite.attrib.items() >= {"tests": "6", "failures": "1", "errors": "2", "skipped": "1"}.items()
    cases = {case.get("name"): [each.tag for each in case] for case in suite}
    milder = {"mild": ["system-out"], "silent": [], "other": ["skipped"]}
    assert cases == {"dead": ["failure"], "crashing": ["error"], "check-up": ["error"]} | milder
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.get("message") == "3 of 4 channels fired in none (limit 25 %)."
    assert "value 0.75, limit 0.25" in str(failure.text) and "Train longer." in str(failure.text)
    assert suite.findtext("testcase/system-out") == "note: 0: A <note> & a bell �."


@pytest.mark.parametrize("given", [["--port", "3"], ["--model", "checked_nets:broken"], ["--fail-on", "x"]])
def test_what_could_not_be_checked_is_in_the_files_too(project: Path, given: list[str]) -> None:
    (project / "found.json").write_text('{"hookscope": 1, "findings": []}')  # a pass of yesterday
    assert run(*given, "--json", "found.json", "--junit=found.xml") == 2
    told = json.loads((project / "found.json").read_text())
    assert told["findings"] == told["checked"] == [] and told["error"]
    (suite,) = ElementTree.parse(project / "found.xml").getroot()
    assert suite.get("errors") == "1" and suite.find("testcase/error") is not None


def test_a_check_up_that_is_killed_leaves_no_pass_in_its_files(project: Path) -> None:
    (project / "ending_nets.py").write_text("import os\ndef make():\n    os._exit(0)\n")
    given = ["--model", "ending_nets:make", "--json", "found.json"]
    ran = subprocess.run([sys.executable, "-m", "hookscope", "check", *given], env=ENVIRON, timeout=120, check=False)
    assert ran.returncode == 0  # nothing of ours runs after that
    told = json.loads((project / "found.json").read_text())
    assert told["error"] == "The check-up began and did not come to its end." and not told["checked"]


def test_the_summary_is_appended_to_and_shows_texts_as_they_are(project: Path, plant: Callable[..., None]) -> None:
    def odd(patient: Patient) -> Iterator[Finding]:
        yield Finding("odd", "error", "a|b <b> `c`\nd", layer="x|y", advice="Do *it*.")

    plant(odd=odd, silent=quiet)
    (project / "summary.md").write_text("before\n")
    environ = {"GITHUB_STEP_SUMMARY": str(project / "summary.md")}
    assert run(*OWN, "--pictures", 1, environ=environ) == 1
    text = (project / "summary.md").read_text()
    assert text.startswith("before\n### Check-up of tiny\n")
    row = next(line for line in text.splitlines() if line.startswith("| error"))
    assert row == r"| error | odd | x\|y | a\|b \<b\> \`c\` d | Do \*it\*. |"
    assert run("--port", 3, environ=environ) == 2
    assert "could not be checked: --port is an option" in (project / "summary.md").read_text()


def test_a_summary_that_cannot_be_written_changes_nothing(
    project: Path, plant: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plant(silent=quiet)
    assert run(*OWN, "--pictures", 1, environ={"GITHUB_STEP_SUMMARY": str(project)}) == 0
    assert "cannot be written (Is a directory)" in capsys.readouterr().err


def test_progress_is_one_line_of_a_terminal_and_nothing_elsewhere(
    project: Path, plant: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(silent=quiet)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(*OWN, "--pictures", 1) == 0
    err = capsys.readouterr().err
    assert "Rule 1 of 1: silent …" in err and "Reading picture 1 …" in err
    assert "\n" not in err and err.endswith("\r\033[K")
    assert run(*OWN, "--pictures", 1, environ={"CI": "true"}) == 0
    assert capsys.readouterr().err == ""


# --- pyproject.toml


def configured(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.hookscope.check]\n{text}")


def test_a_project_says_what_it_wants_and_the_command_line_wins(
    project: Path,
    plant: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(silent=quiet, dead=dead, other=quiet)
    pictures(project / "line", "a.png", "b.png", "c.png")
    configured(
        project,
        'model = "checked_nets:make"\nimages = "line"\npictures = 2\nfail-on = "error"\nmean = 0.25\n'
        'factory-arg = { title = "told" }\nlimits = { "dead.second" = 3, "dead" = 0.5 }\n'
        'rules = { "other" = "off: we prune later", dead = "error" }\n',
    )
    (project / "below" / "further").mkdir(parents=True)
    monkeypatch.chdir(project / "below" / "further")  # the file is found from below, and its paths are its own
    assert run() == 1
    out = capsys.readouterr().out
    assert out.startswith("told, 2 pictures of line\n") and "  other: It was switched off: we prune later.\n" in out
    assert out.splitlines()[-1].startswith("error: dead at 1: ") and out.strip().endswith("limit 0.5)")
    assert run("--rule", "dead=warning", "--rule", "other=note", "--pictures", "3", "--limit", "dead=0.3") == 0
    out = capsys.readouterr().out
    assert out.startswith("told, 3 pictures of line\n") and "other (ok)" in out and out.strip().endswith("limit 0.3)")
    wanted = arguments.read_wanted([], {}, project)
    assert wanted.model.mean == (0.25,) * 3 and wanted.model.arguments == '{"title": "told"}'
    other = arguments.read_wanted(["--model", "other.nets:make"], {}, project)
    assert other.model.mean is None and other.model.arguments == "{}"  # what is said of another model
    assert other.images is not None
    variable = arguments.read_wanted([], {"HOOKSCOPE_MEAN": "0.75", "HOOKSCOPE_IMAGES": "x=/"}, project)
    assert variable.model.mean == (0.75,) * 3 and variable.images == wanted.images


def test_what_a_project_says_wrongly(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "pyproject.toml"
    for text, sentence in [
        ("modle = 'x'", f"In {path} [tool.hookscope.check] has 'modle', which there is not. Did you mean model?"),
        ("port = 80", f"In {path} [tool.hookscope.check] has 'port', which there is not. There are allow-head, "),
        ("rules = 'off'", f'In {path} rules is no table: write rules = {{ "dead-channels" = ... }}.'),
        ("rules = { dead-channels = ['off'] }", f"In {path} rules.dead-channels is list, and a text or a number"),
        ("fail-on = ['error', 'note']", f"In {path} fail-on has 2 values, and one is needed."),
        ("limits = { dead-channels = 'x' }", "A limit is a number, and dead-channels was given 'x'."),
        ("weights = 'none.pt'", f"weights in {path} is '{project / 'none.pt'}': there is no such file"),
        ("model = [3", f"{path} cannot be read ("),
        ("model = 1979-05-27", f"In {path} model is date, and a text or a number is needed."),
    ]:
        configured(project, ("model = 'checked_nets:make'\n" if "weights" in text else "") + text)
        assert refusal(capsys).startswith(sentence)
    path.write_text("[tool.hookscope]\ncheck = 3\n")
    assert refusal(capsys) == f"In {path} [tool.hookscope.check] is no table."


def test_a_limit_with_a_dot_may_stand_without_quotes(project: Path) -> None:
    configured(project, "limits = { preprocessing.ratio = 3, dead-channels = 0.5 }")
    assert arguments.read_wanted([], {}, project).limits == {"preprocessing.ratio": 3.0, "dead-channels": 0.5}


def test_a_file_that_says_nothing_of_check_ups_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.hookscope.check]\nmodel = "above.nets:make"\n')
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    found = configuration.read_configuration(tmp_path / "inner", arguments.ROWS)
    assert found.path == tmp_path / "pyproject.toml" and found.one("model") == "above.nets:make"


def test_every_option_of_a_model_is_taken_as_the_page_takes_it(project: Path) -> None:
    flags = {row.flag for row in arguments.ROWS}
    wanted = {"--model", "--weights", "--labels", "--factory-arg", "--input-size", "--mean", "--std", "--allow-head"}
    assert flags >= wanted | {"--resize", "--channel-order", "--range", "--interpolation", "--output", "--reads"}
    assert not flags & {"--port", "--host", "--token", "--images", "--baseline", "--cache-dir"}
    given = ["--model", "new=my.nets:make", "--mean", "new=0.5", "--input-size", "32x48", "--factory-arg", "a=3"]
    found = arguments.read_wanted(given, {}, project).model
    assert (found.name, found.spec, found.mean) == ("new", "my.nets:make", (0.5,) * 3)
    assert (found.input_size, found.arguments) == ((32, 48), '{"a": 3}')


# --- the library, and the documents


def test_a_test_fails_where_a_rule_comes_to_no_end(plant: Callable[..., None]) -> None:
    import torch
    from torch import nn

    plant(silent=quiet, crashing=crash)
    model = nn.Sequential(nn.Conv2d(3, 2, 3))
    with pytest.raises(AssertionError, match="not checked: crashing: It failed: ZeroDivisionError: by a rule"):
        hs.assert_healthy(model, torch.rand(8, 3, 8, 8))
    plant(silent=quiet, other=untold)
    assert hs.assert_healthy(model, torch.rand(8, 3, 8, 8)).pictures == 8


def test_the_documentation_holds_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--rules") == 0
    table = capsys.readouterr().out.strip()
    assert table in (ROOT / "docs" / "doctor.md").read_text(), "run: python app.py check --rules"
    assert table.count("\n") == len(RULES) + 1


def test_the_documentation_names_every_option_and_key() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text()
    assert not [flag for flag in arguments.FLAGS if f"`{flag}" not in text]
    assert not [key for key in configuration.OWN if f"`{key}`" not in text]


def test_it_needs_no_page_and_everything_that_it_imports_is_in_its_extra() -> None:
    reached = test_structure.reachable("hookscope.dashboard.checking.command")
    names = {module.split(".")[0] for other in reached for module in test_structure.IMPORTS[other]}
    third = {
        INSTALLED_NAMES.get(name, name).replace("_", "-") for name in names - {*sys.stdlib_module_names, "hookscope"}
    }
    optional = {"numba", "transformers", "huggingface-hub"}  # `fast`, `hf`; the last comes with timm
    assert third - optional <= set(requirements("requirements-check.txt"))
    page = requirements("requirements.txt")
    for name, requirement in requirements("requirements-check.txt").items():
        assert requirement.specifier == page[name].specifier, name
    dynamic = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
    assert dynamic["optional-dependencies"]["check"]["file"] == ["requirements-check.txt"]


def test_a_report_of_nothing_is_no_pass() -> None:
    report = reports.unchecked("net", "It could not.")
    assert report.code == 2 and "nothing found" not in reports.last_line(report)
    with_date = reports.Report(
        CheckUp("net", 3, (Finding("baseline", "error", "Moved.", layer="a", value=1.0, limit=0.5),)), made="2026-01-02"
    )
    assert reports.last_line(with_date) == ("error: baseline at a: Moved. (value 1, limit 0.5, baseline of 2026-01-02)")
    assert reports.as_text(reports.Report(CheckUp("net", 1, (), (Checked("x", "ok", "y"),)))).endswith("1 picture")
    assert {row.name for row in TABLE} > {row.name for row in arguments.ROWS}


# --- as a program


def started(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hookscope", "check", *given],
        cwd=folder,
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_default_model_is_healthy_within_20_seconds(tmp_path: Path) -> None:
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = started(tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert min(time.monotonic() - began, computed) < 20  # the tests may share the processor
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    assert ran.stdout.startswith("EfficientNet-Lite0, 18 built-in photographs, because no folder was named\n")
    assert "\nwarning: " not in ran.stdout and "\nerror: " not in ran.stdout


def test_a_model_with_nan_is_found_with_its_layer(project: Path) -> None:
    ran = started(project, "--model", "checked_nets:bad", "--json", "found.json")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1].startswith("error: non-finite at 0: ")
    first = json.loads((project / "found.json").read_text())["findings"][0]
    assert (first["rule"], first["layer"], first["severity"]) == ("non-finite", "0", "error")


def test_that_nobody_reads_the_output_is_no_finding(project: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    given = [*OWN, "--json", "found.json", "--fail-on", "error", "--rule", "training-mode=note"]
    command = [sys.executable, "-m", "hookscope", "check", *given]
    ran = subprocess.run(command, env=ENVIRON, stdout=writing, stderr=subprocess.PIPE, timeout=120, check=False)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, b"") and "error" not in json.loads((project / "found.json").read_text())


def test_a_factory_that_raises_is_one_sentence(project: Path) -> None:
    ran = started(project, "--model", "checked_nets:broken")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(
        "hookscope: checked_nets:broken failed: ValueError: the disk is full. It was raised in "
    )
    assert ran.stderr.count("\n") == 1
