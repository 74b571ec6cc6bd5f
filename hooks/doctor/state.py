"""In which state a forward pass finds a model: what runs as in training, and what draws random numbers."""

from __future__ import annotations

import contextlib
import inspect
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.doctor.probe import at_most
from hookscope.hooks.layers.names import first_names
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.modes import check_supported, eager, locked, preserve
from hookscope.hooks.passes.operations import function_name
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.passes.running import Functions, Stack
from hookscope.hooks.results.findings import Bars, Finding, Severity, Trail, join_names

TRAINING = "training-mode"
AT_ONCE = 2  # pictures: a BatchNorm in training takes no single one
SEPARATE = 8  # findings; more are told as one
AROUND = 3  # layers that are shown before and after one
EVAL = "Call model.eval() before it is used, after everything that may call train()."
TURN_OFF = "Write {0}(..., training=self.training), or use the module nn.Dropout, which model.eval() turns off."
ANSWERS = "Its answers differ from run to run, and are those of a thinned network."
BATCH = "It normalises by the batch that it is given, so each picture's answer depends on the others."
DROPPING = (
    "dropout",
    "rrelu",
    "bernoulli",
    "scaled_dot_product_attention",
)  # parts of the names of functions that draw when told to
STATISTICS = "batch_norm"
CHANCE = ("StochasticDepth", "DropPath", "DropBlock", "PatchDropout", "ShakeDrop")  # in names of other people's modules
SHARES = ("p", "drop_prob", "prob", "drop_rate")  # how these call their share


@dataclass
class _Met:
    """What a pass met.

    Attributes:
        modules: those that ran in training mode and care, by name, each with what it does then.
        functions: the modules out of training mode in which functions drew, or used a batch's statistics: their names.
        ran: the modules that ran, in the order in which they began.
        answer: the first tensor that the model returned; None where it returned none, or failed.
    """

    modules: dict[str, str] = field(default_factory=dict)
    functions: dict[str, list[str]] = field(default_factory=dict)
    ran: dict[str, bool] = field(default_factory=dict)
    answer: Tensor | None = None

    @property
    def chance(self) -> bool:
        """Whether it drew random numbers."""
        return any(map(_is_chance, self.modules.values())) or any(
            not _of_batch(name) for names in self.functions.values() for name in names
        )


def training_mode(patient: Patient) -> Iterator[Finding]:
    """What runs as in training, in the state in which the model was handed over."""
    names = first_names(patient.inner)
    batch = patient.batches[0][:AT_ONCE].to(patient.device)
    batch = batch if len(batch) > 1 else torch.cat([batch, batch])
    met = _Met()
    with _as_it_is(patient.inner):
        try:
            met = _meet(patient.inner, names, batch)
            apart = _apart(met.answer, patient.inner, batch) if met.chance else math.nan
        except Exception:  # in training mode some want labels too: what is known is how they stand
            met = _Met({name: does for module, name in names.items() if module.training and (does := _cares(module))})
            apart = math.nan
    patient.step()
    handed = {
        name: does
        for name in patient.known.training
        if name not in met.modules and (does := _cares(patient.modules.get(name)))
    }
    patient.found[f"{TRAINING}: looked at"] = (
        f"{len(names):,} modules in the mode that each was in, and what a pass of {len(batch)} pictures drew."
    )
    if len({*met.modules, *met.functions, *handed}) <= patient.limit(TRAINING) and not patient.inner.training:
        return
    caring = [name for module, name in names.items() if _cares(module)]
    if patient.inner.training and 2 * len(met.modules) >= len(caring):
        yield _whole(met, apart)
    else:
        yield from _of_modules(met.modules, met, apart)
    yield from _of_modules(handed, met, apart, "was handed over in training mode although the model was not")
    by_functions = [_of_function(where, functions, patient, apart) for where, functions in met.functions.items()]
    yield from at_most(by_functions, "do so")


@contextlib.contextmanager
def _as_it_is(model: nn.Module) -> Iterator[None]:
    """What `inspecting` gives, but for the modes, which stay as they are."""
    check_supported(model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(model))
        stack.enter_context(preserve(model))
        stack.enter_context(eager(model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for module in model.modules():
            if isinstance(module, nn.SyncBatchNorm):  # it would wait for other processes
                module.training = False
        yield


def _meet(model: nn.Module, names: Mapping[nn.Module, str], batch: Tensor) -> _Met:
    """Run the model once, and see which modules run in training mode, and where random numbers are drawn."""
    met = _Met()
    stack = Stack(names)
    drawn = _Drawn(batch.device)

    def note(function: str) -> None:
        running = stack.innermost
        if running is None:
            return
        module, name = running.module, running.name
        if module.training:
            met.modules.setdefault(name, _does(function))
        else:
            met.functions.setdefault(name, [])
            if function not in met.functions[name]:
                met.functions[name].append(function)

    def whole(module: nn.Module) -> bool:
        return not type(module).__module__.startswith("torch.nn.")  # whose modules ask torch alone

    def begin(module: nn.Module, *_: Any) -> None:
        if drawn.changed(everything=whole(module)) and stack.running:  # by what is no function of torch's
            note("")
        stack.begin(module)
        met.ran.setdefault(names[module], module.training)
        if module.training and (does := _cares(module)):
            met.modules.setdefault(names[module], does)

    def end(module: nn.Module, *_: Any) -> None:
        if drawn.changed(everything=whole(module)):
            note("")
        if module.training and (does := _cares(module)):  # its forward has put it there
            met.modules.setdefault(names[module], does)
        stack.end(module)

    def see(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        called = str(getattr(function, "__name__", ""))
        if drawn.changed() or (STATISTICS in called and _by_batch(function, args, kwargs)):
            note(called)

    functions = Functions(see)
    with contextlib.ExitStack() as hooks:
        for module, name in names.items():
            if not isinstance(module, torch.jit.ScriptModule):
                hooks.enter_context(hook(module, "forward_pre", functions.unseeing(begin), layer=name))
                hooks.enter_context(hook(module, "forward", functions.unseeing(end), layer=name, always=True))
        hooks.enter_context(functions)
        found = nested.first(model(batch))
        met.answer = None if found is None else found[1].detach()
    return met


class _Drawn:
    """Whether random numbers have been drawn since it was last asked, by torch, numpy or Python."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.by_torch, self.by_others = self._of_torch(), self._of_others()

    def _of_torch(self) -> tuple[bytes, ...]:
        states = (torch.get_rng_state().numpy().tobytes(),)
        if self.device.type == "cuda":
            return *states, torch.cuda.get_rng_state(self.device).numpy().tobytes()
        return states

    def _of_others(self) -> tuple[Any, ...]:
        # the places within their tables, which every draw moves
        numbers: Any = np.random.get_state(legacy=True)
        _, words, rest = random.getstate()
        return *numbers[2:], int(numbers[1][0]), words[-1], words[0], rest

    def changed(self, everything: bool = False) -> bool:
        """Whether torch has drawn; with `everything`, whether anybody has, which takes ten times as long."""
        before = self.by_torch, self.by_others
        self.by_torch = self._of_torch()
        if everything:
            self.by_others = self._of_others()
        return (self.by_torch, self.by_others) != before


def _cares(module: nn.Module | None) -> str:
    """What a module does in training mode, in words; "" where that is what it does anyway."""
    if module is None:
        return ""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return f"drops values by chance ({module.p:.0%})" if module.p else ""
    if isinstance(module, nn.RReLU):
        return "draws its slopes by chance"
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "normalises by the batch" if module.running_mean is not None else ""
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return "normalises by each picture" if module.track_running_stats else ""
    if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
        several = isinstance(module, nn.MultiheadAttention) or module.num_layers > 1
        return f"drops values by chance ({module.dropout:.0%})" if module.dropout and several else ""
    kind = type(module)
    if any(name.lower() in kind.__name__.lower() for name in CHANCE):
        share = next(
            (float(each) for name in SHARES if isinstance(each := getattr(module, name, None), float | int)), 1.0
        )
        return "drops branches or values by chance" if share else ""
    if kind.__module__.startswith("torch.nn."):
        return ""
    return "runs other code" if "self.training" in _source(kind) else ""


def _source(kind: type[nn.Module]) -> str:
    try:
        return inspect.getsource(kind.forward)
    except (OSError, TypeError):  # made in a shell, or compiled
        return ""


def _does(function: str) -> str:
    if _of_batch(function):
        return "normalises by the batch"
    return f"draws random numbers ({_called(function)})"


def _is_chance(does: str) -> bool:
    return "chance" in does or "random" in does


def _called(function: str) -> str:
    """How a function is called in a sentence."""
    return function or "by code of its own"


def _of_batch(function: str) -> bool:
    return STATISTICS in function


def _by_batch(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of batch normalisation is told to use the batch's statistics, and is given more than one picture.

    Weights are standardised by it, too, as one picture.
    """
    given = kwargs.get("input", args[0] if args else None)
    if isinstance(given, Tensor) and len(given) == 1:
        return False
    name = "use_input_stats" if "instance" in function_name(function) else "training"
    return bool(kwargs.get(name, args[5] if len(args) > 5 else False)) and name == "training"


def _apart(answer: Tensor | None, model: nn.Module, batch: Tensor) -> float:
    """By how much the answers of a second run are away from the first one's, the largest difference."""
    if answer is None:
        return math.nan
    found = nested.first(model(batch))
    if found is None or found[1].shape != answer.shape or not answer.is_floating_point():
        return math.nan
    return float((found[1].detach() - answer).abs().max())


# --- what is said


def _differ(apart: float) -> str:
    return "" if math.isnan(apart) else f" Two runs of the same pictures are up to {apart:.3g} apart."


def _whole(met: _Met, apart: float) -> Finding:
    count = len(met.modules)
    severe: Severity = "error" if count else "note"
    what = f"{count:,} of its modules run as in training: {_listed(met.modules)}" if count else "nothing cares"
    return Finding(
        TRAINING,
        severe,
        f"The model is in training mode, and {what} (limit 0).{_differ(apart)}",
        _why(met.modules.values()) if count else "It has nothing that behaves otherwise in training.",
        EVAL,
        layer=next(iter(met.modules), ""),
        value=float(count),
        limit=0.0,
        excess=1.0 + count,
        evidence=_trail(list(met.modules), met) if count else None,
        about="model",
    )


def _of_modules(
    modules: Mapping[str, str], met: _Met, apart: float, how: str = "runs in training mode"
) -> Iterator[Finding]:
    """Modules in training mode, one by one; many of them together."""
    if len(modules) > SEPARATE:
        first = next(iter(modules))
        yield Finding(
            TRAINING,
            "error",
            f"{len(modules):,} modules are in training mode although the model is not (limit 0): "
            f"{_listed(modules)}.{_differ(apart)}",
            _why(modules.values()),
            EVAL,
            layer=first,
            value=float(len(modules)),
            limit=0.0,
            excess=1.0 + len(modules),
            evidence=_trail(list(modules), met),
        )
        return
    for name, does in modules.items():
        severe: Severity = "warning" if does == "runs other code" else "error"
        yield Finding(
            TRAINING,
            severe,
            f"{name or 'The model'} {how} and {does}: 1 module (limit 0).{_differ(apart) if _is_chance(does) else ''}",
            _why([does]),
            f"{EVAL[:-1]}, and look for code that calls train() on it.",
            layer=name,
            value=1.0,
            limit=0.0,
            excess=2.0,
            evidence=_trail([name], met),
        )


def _of_function(where: str, functions: Sequence[str], patient: Patient, apart: float) -> Finding:
    called = ", ".join(map(_called, functions))
    place = where or "the model itself"
    module = patient.modules.get(where)
    if all(map(_of_batch, functions)):
        stores = isinstance(module, nn.modules.batchnorm._BatchNorm)
        severe: Severity = "warning" if stores else "error"
        said = f"{place} normalises by the batch's own statistics ({called}) although it is not in training mode"
        advice = (
            "Make it with track_running_stats=True, so that it stores what it has seen."
            if stores
            else "Give batch_norm training=self.training."
        )
        return Finding(
            TRAINING, severe, f"{said}: {len(functions)} call (limit 0).", BATCH, advice, layer=where,
            value=float(len(functions)), limit=0.0, excess=2.0,
        )  # fmt: skip
    dropping = any(part in name for name in functions for part in DROPPING)
    return Finding(
        TRAINING,
        "error" if dropping else "warning",
        f"{place} draws random numbers ({called}) although it is not in training mode (limit 0).{_differ(apart)}",
        ANSWERS if dropping else "Its answers differ from run to run.",
        TURN_OFF.format(next((name for name in functions if name), "dropout"))
        if dropping
        else "If that is not wanted, let it depend on self.training, or draw from a generator with a seed.",
        layer=where,
        value=apart,
        limit=0.0,
        excess=2.0,
        evidence=None
        if math.isnan(apart)
        else Bars("largest difference of the answers", ("two runs",), (apart,), bad=0),
    )


def _listed(modules: Iterable[str]) -> str:
    return join_names([name or "the model itself" for name in modules])


def _why(does: Iterable[str]) -> str:
    does = list(does)
    return " ".join(
        filter(
            None,
            [
                ANSWERS if any(map(_is_chance, does)) else "",
                BATCH if any("batch" in each for each in does) else "",
                "It does what it did in training." if all(each == "runs other code" for each in does) else "",
            ],
        )
    )


def _trail(names: Sequence[str], met: _Met) -> Trail | None:
    """The modules around the first of these, each with its mode."""
    ran = [(name, training or name in names) for name, training in met.ran.items() if name]
    first = next((place for place, (name, _) in enumerate(ran) if name in names), -1)
    if first < 0:
        return None
    near = ran[max(0, first - AROUND) : first + AROUND + 1]
    return Trail(
        "in which mode each runs",
        tuple((name, "training" if training else "eval") for name, training in near),
        marked=tuple(place for place, (name, _) in enumerate(near) if name in names),
    )
