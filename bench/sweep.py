"""`python -m bench.sweep`: is what `capture` says of every leaf of every model what the zero-leaf oracle says?

All torchvision classifiers, segmenters and detectors, and a spread of timm architectures, at random weights, each in a
process of its own with the smallest input that it accepts. Results are kept in a file, so the command goes on where it
was stopped; `--write` puts the table into docs/sweep.md. It stands here and not in the tests because it is a command of
hours with a table, like the benchmarks; the tests run the same comparison on a few small models.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import timm
import torch
import torchvision

from bench import conditions
from bench.application import ROOT
from bench.models import answer_of, limit_memory
from bench.options import say
from bench.report import Table, write

RESULTS = ROOT / "build" / "sweep.jsonl"
DOCUMENT = ROOT / "docs" / "sweep.md"
PATIENCE_SECONDS = 1800
COLUMNS = ("model", "input", "leaves", "outputs", "gradients", "rounded", "wrong", "given back", "view")
COLUMNS += ("error", "seconds")

# One of each family, small ones where there is a choice.
TIMM = """
botnet26t_256 cait_xxs24_224 coatnet_nano_rw_224 convnext_atto convnextv2_atto crossvit_tiny_240 davit_tiny
deit_tiny_distilled_patch16_224 densenet121 dla34 edgenext_xx_small efficientformer_l1 eva02_tiny_patch14_224
fastvit_t8 focalnet_tiny_srf ghostnet_050 gmlp_s16_224 hiera_tiny_224 hrnet_w18_small inception_v3 lambda_resnet26t
levit_128s maxxvit_rmlp_nano_rw_256 mixer_s32_224 mnasnet_small mobilenetv2_050 mobilenetv3_small_050
mobilenetv4_conv_small mobilevit_xxs mobilevitv2_050 nest_tiny nf_resnet26 poolformer_s12 pvt_v2_b0 regnety_002
repvgg_a0 res2net50_14w_8s resmlp_12_224 resnet18 resnet26d rexnet_100 seresnext26d_32x4d skresnet18 starnet_s1
swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 tf_efficientnet_lite0 tiny_vit_5m_224 tnt_s_patch16_224 vgg11_bn
visformer_tiny vit_tiny_patch16_224 volo_d1_224 xcit_nano_12_p16_224
"""


def main(arguments: Sequence[str]) -> int:
    """Run what is not in the results file yet; 1 if anything was wrong, or could not be run by an error."""
    given = _parser().parse_args(arguments)
    if given.one:
        limit_memory()
        print(json.dumps(answer_of(given.one, given.threads)))
        return 0
    names = [name for name in specs() if not given.only or any(part in name for part in given.only)]
    if not names:
        print(f"No model's name contains {' or '.join(map(repr, given.only))}.", file=sys.stderr)
        return 2
    known = {} if given.again else _known()
    for number, name in enumerate(names, 1):
        if name not in known:
            known[name] = _run(name, given.threads)
            _remember(known[name])
        say(f"{number} of {len(names)}: {name}: {_says(known[name])}")
    found = table([known[name] for name in names])
    print(found.markdown())
    if given.write:
        write(DOCUMENT, [found])
    return 1 if any(answer.get("wrong") or "failed" in answer for answer in known.values()) else 0


def specs() -> list[str]:
    """Every model of the sweep, as "torchvision:NAME" or "timm:NAME"."""
    modules = [torchvision.models, torchvision.models.segmentation, torchvision.models.detection]
    return [
        *(f"torchvision:{name}" for module in modules for name in torchvision.models.list_models(module=module)),
        *(f"timm:{name}" for name in TIMM.split()),
    ]


def table(answers: Iterable[dict[str, Any]]) -> Table:
    """One row per model."""
    answers = list(answers)
    rows = [_row(answer) for answer in answers]
    ran = [answer for answer in answers if "leaves" in answer]

    def total(key: str) -> str:
        return f"{sum(answer[key] for answer in ran):,}"

    wrong = sum(len(answer["wrong"]) for answer in ran)
    notes = [
        f"{len(ran)} of {len(answers)} models ran: {total('leaves')} leaf modules, {total('tensors')} outputs and",
        f"{total('gradients')} gradients; {wrong} wrong. *Rounded*: outputs that equal the oracle's up to rounding",
        "only, because its sums lie otherwise in memory there; all others are equal bit for bit. The error is the",
        "largest difference of a gradient, in units of its layer's largest. *Given back*: the layer returns the very",
        "tensor it was given (Identity, dropout in eval mode), and somebody else reads that tensor too; ours is the",
        "gradient of the tensor, the oracle's that of the path through the layer. *View*: the output is a view that is",
        "written over, and its gradient is declared unavailable.",
        conditions.sentence(["torch", "torchvision", "timm"]),
    ]
    columns = [
        "model",
        "input",
        "leaves",
        "outputs",
        "gradients",
        "rounded",
        "wrong",
        "given back",
        "view",
        "error",
        "seconds",
    ]
    return Table("sweep", columns, rows, notes)


def _row(answer: dict[str, Any]) -> list[str]:
    if "leaves" not in answer:
        return [answer["spec"], "–", _says(answer), *["–"] * 8]
    return [
        answer["spec"],
        answer["input"],
        *(f"{answer[key]:,}" for key in ("leaves", "tensors", "gradients")),
        f"{answer.get('rounded', 0)}",
        _named(answer["wrong"]) + ("" if answer["same_output"] else "; another output"),
        _named(answer["aliases"]),
        _named(answer["unavailable"]),
        f"{answer['error']:.0e}" if answer["error"] else "0",
        f"{answer['seconds']:.0f}",
    ]


def _named(layers: Sequence[str], most: int = 3) -> str:
    """ "0", or how many and which, the numbers in their names left out: "7: blocks.*.identity"."""
    if not layers:
        return "0"
    alike = list(
        dict.fromkeys(".".join("*" if part.isdigit() else part for part in name.split(".")) for name in layers)
    )
    return f"{len(layers)}: {', '.join(alike[:most])}{', …' if len(alike) > most else ''}"


def _says(answer: dict[str, Any]) -> str:
    if "leaves" in answer:
        return f"{len(answer['wrong'])} wrong of {answer['tensors']}"
    return f"not run: {answer['not_run']}" if "not_run" in answer else f"failed: {answer['failed']}"


def _run(spec: str, threads: int) -> dict[str, Any]:
    began = time.monotonic()
    command = [sys.executable, "-W", "ignore", "-m", "bench.sweep", "--one", spec, "--threads", str(threads)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"spec": spec, "not_run": f"it took more than {PATIENCE_SECONDS // 60} minutes"}
    if done.returncode < 0:
        return {"spec": spec, "not_run": f"killed by signal {-done.returncode}; the memory may not have sufficed"}
    if done.returncode:
        return {"spec": spec, "failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": time.monotonic() - began}


def _known() -> dict[str, dict[str, Any]]:
    """What the results file holds of these versions."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    answers = [json.loads(line) for line in lines]
    return {
        answer["spec"]: answer for answer in answers if answer["versions"] == _versions() and "failed" not in answer
    }


def _remember(answer: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**answer, "versions": _versions()}) + "\n")


def _versions() -> str:
    return f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__.split("\n\n")[0])
    parser.add_argument("only", nargs="*", metavar="PART", help="only models whose name contains one of these")
    parser.add_argument("--again", action="store_true", help=f"forget what {RESULTS.name} holds")
    parser.add_argument("--threads", type=int, default=1, help="of each model's process (1)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/sweep.md")
    parser.add_argument("--one", metavar="MODEL", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
