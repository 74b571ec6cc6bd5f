"""Every rule that a check-up goes through: its name, how bad what it finds is, its formula, limits and source, and what
it cannot see.

Each is a row, like those of `methods`: the library runs it, the page explains it, and docs/doctor.md holds the table.
One more is one more row and the function that it names. Nothing here imports torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hookscope.hooks.methods import Rows
from hookscope.hooks.results.findings import Finding, Severity

Examine = Callable[[Any], Iterable[Finding]]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: by which it is switched off, limited and found in a report. title: for people.
        severity: how bad it is by default; a finding may be milder, and says why.
        formula: what is computed. source: whose method or threshold it is.
        limits: where lines are drawn, the first one is meant where only the rule is named; each with its name.
        needs: what it needs, in words. pictures: how many different pictures at least; 0 for none.
        trained: whether it says nothing about random weights.
        blind: what it cannot see.
        where: the function below `hooks.doctor` that examines a patient, "module:function".
        cost: rules with a lower one go first: 0 looks at the model alone, 1 at one pass, 2 takes passes of its own, 3
            several.
    """

    name: str
    title: str
    severity: Severity
    formula: str
    source: str
    where: str
    limits: Mapping[str, float] = field(default_factory=dict)
    needs: str = ""
    pictures: int = 1
    trained: bool = False
    blind: str = ""
    cost: int = 1

    def examine(self, patient: Any) -> Iterable[Finding]:
        """What it finds; see `hooks.doctor.patient.Patient`.

        Raises:
            CannotTell: why it cannot say.
        """
        module, _, function = self.where.partition(":")
        found: Examine = getattr(importlib.import_module(f"hookscope.hooks.doctor.{module}"), function)
        return found(patient)


DEBUGGER = "threshold of Amazon SageMaker Debugger"

RULES: Rows[Rule] = Rows(
    Rule(
        "preprocessing",
        "pictures prepared otherwise than in training",
        "error",
        "per channel the mean of the two Gaussian Kullback-Leibler divergences between what the first BatchNorm is "
        "given and what it stores, median over its channels; of each candidate preparation on the same pictures. Where "
        "answers are labels no more often than by chance (binomial test), the candidate in which significantly more "
        "are (exact binomial test over the pictures that differ, p 0.01 for all candidates together)",
        "ours; candidates are compared in pairs",
        "preparation:preprocessing",
        {"ratio": 1.5, "least": 0.2, "size": 1.1},
        needs="trained weights with a BatchNorm near the input, labels, or a baseline",
        pictures=8,
        trained=True,
        blind="the order of the colours; bright and dark exchanged where a model wants -1 to 1; models without "
        "BatchNorm, unless there are labels or a baseline",
    ),
    Rule(
        "colour-order",
        "red and blue exchanged",
        "error",
        "with labels agreement in both orders (exact binomial test over the pictures that differ; in the other order "
        "at least half must agree) and the label's share, without the first class's share, in both orders (sign-flip "
        "test over pictures, at a tenth of the limit, and only where the median share is 0.5 or more)",
        "ours; never from BatchNorm statistics, which are the same for both orders",
        "colours:colour_order",
        {"p": 0.01, "factor": 1.35},
        needs="labels, or a classifier's confidence, over enough pictures",
        pictures=8,
        trained=True,
        blind="models that answer alike in both orders: then it cannot tell",
        cost=2,
    ),
    Rule(
        "batchnorm-shift",
        "a BatchNorm's statistics are not those of what it is given",
        "warning",
        "as preprocessing, at every BatchNorm, while those before it normalise by the batch, and against the "
        "median of the others; or the share of channels that are more than 10 off",
        "ours",
        "normalisation:batchnorm_shift",
        {"shift": 0.15, "times": 60.0, "share": 0.1},
        needs="trained weights with BatchNorm",
        pictures=8,
        trained=True,
        blind="a shift that all layers share is the pictures' and not a layer's; channels that were exchanged where "
        "all store about the same, as in the last BatchNorm of EfficientNets, or of which only weight and bias were",
    ),
    Rule(
        "non-finite",
        "NaN or infinite values",
        "error",
        "the call whose inputs are all finite and whose output is not; -inf in a mask is none; where the answer is "
        "finite a note, for NaN or a division by 0, or a warning, for a sum of products that overflows",
        "ours",
        "values:non_finite",
        {"count": 0.0},
        blind="what only other pictures would show",
    ),
    Rule(
        "dead-channels",
        "channels that fire in no picture",
        "warning",
        "share of the channels after an activation function whose values are 0 in every picture; how far below 0 the "
        "largest value before it was, by the root mean square of the layer's median channel; whether it was exactly 0 "
        "there, too. Channels that are silent without any of this are a note",
        f"{DEBUGGER} (share of a layer); the rest ours",
        "channels:dead_channels",
        {"share": 0.5, "depth": 5.0},
        needs="activation functions that can be silent (ReLU and its kin)",
        pictures=8,
        trained=True,
        blind="channels that fire on pictures which are not in the set; those of linear layers at fewer than 32 "
        "pictures, unless their weights are 0",
    ),
    Rule(
        "rare-channels",
        "channels that fire in few pictures",
        "note",
        "share of the channels after an activation function that fire in fewer than 1 of 20 pictures, but in some",
        "ours",
        "channels:rare_channels",
        {"share": 0.5},
        pictures=20,
        trained=True,
        blind="as dead-channels",
    ),
    Rule(
        "constant-channels",
        "channels that say the same everywhere",
        "warning",
        "share of the channels whose standard deviation over all pictures and positions is below 1e-6 of their "
        "magnitude, and which are neither dead nor handed on by the layer before; any whose weights are all 0",
        "ours",
        "channels:constant_channels",
        {"share": 0.05},
        pictures=8,
        trained=True,
        blind="channels that are constant on these pictures only",
    ),
    Rule(
        "duplicate-channels",
        "channels that repeat each other",
        "warning",
        "channels of layers with weights of which another one has a |cosine| above the limit, centred, over up to 64 "
        "positions of 8 pictures; with fewer than 32 values, of the rows of weights, and of at most 8 weights of both",
        "ours",
        "channels:duplicate_channels",
        {"share": 0.0, "cosine": 0.9999},
        pictures=8,
        trained=True,
        blind="channels that are alike on these pictures only",
        cost=2,
    ),
    Rule(
        "saturated",
        "activations at their ends",
        "warning",
        "share of a layer's values for which tanh is given more than 9.5 in magnitude, or a sigmoid less than -23 or "
        "more than 17; of bounded activations (ReLU6, Hardtanh) the share at the upper end",
        DEBUGGER,
        "values:saturated",
        {"share": 0.5},
        pictures=1,
        trained=True,
        cost=2,
    ),
    Rule(
        "vanishing-gradients",
        "gradients vanish on their way back",
        "warning",
        "the gradient of the first class over 4 pictures, at layers with weights: its root mean square at the first "
        "layer, and the norm there by that at the last one; layers that get none at all. A layer has none where none "
        "before it has any: a branch may be shut by design",
        f"{DEBUGGER} (magnitude)",
        "backwards:vanishing",
        {"mean": 1e-7, "ratio": 1e-4},
        blind="what another loss or other pictures would give",
        cost=3,
    ),
    Rule(
        "exploding-gradients",
        "gradients explode on their way back",
        "warning",
        "as vanishing-gradients; or a gradient that is not finite although the answer is",
        "ours",
        "backwards:exploding",
        {"ratio": 1e3},
        blind="as vanishing-gradients",
        cost=3,
    ),
    Rule(
        "training-mode",
        "modules that run as in training",
        "error",
        "modules that a forward pass finds in training mode and that behave otherwise there; functions that draw "
        "random numbers, or normalise by the batch, in modules that are not in training mode",
        "ours",
        "state:training_mode",
        {"count": 0.0},
        blind="what only some pictures lead to; a mode that a model's own code reads in another way than self.training",
        cost=0,
    ),
    Rule(
        "partly-initialised",
        "layers at their initialisation beside trained ones",
        "error",
        "of each weight whether its values are independent draws of a uniform, normal or truncated normal "
        "distribution: Kolmogorov-Smirnov, the largest value, and sums and squares by row, column and place of the "
        "kernel as chi-squares, neighbours, and the strongest direction, each within 4.5 deviations; and of each "
        "normalisation whether it is at 1, 0, 0 and 1; of a layer in doubt whether the BatchNorm behind it stores the "
        "statistics of other weights; a note where no gradient comes to the layers",
        "ours; Johnstone, Annals of Statistics 2001, for the strongest direction",
        "loading:partly_initialised",
        {"count": 0.0},
        trained=True,
        blind="weights of fewer than 200 values; normal initialisations of small layers in a network that was trained "
        "little, and all layers of one in which a training hardly shows; initialisations that are no independent draws",
        pictures=0,
        cost=0,
    ),
    Rule(
        "weights-not-loaded",
        "weights that did not come from the file",
        "warning",
        "keys that the file lacks, or has and the model does not; random weights as a whole are a note",
        "ours",
        "loading:weights_not_loaded",
        {"count": 0.0},
        needs="how the model was loaded",
        pictures=0,
        blind="weights that a model's own code loaded in part",
        cost=0,
    ),
    Rule(
        "class-count",
        "as many names as classes",
        "error",
        "numbers of the answer against class names, and against labels",
        "ours",
        "answers:class_count",
        {"count": 0.0},
        needs="class names or labels",
    ),
    Rule(
        "label-order",
        "classes in another order than the labels",
        "error",
        "confusion of the first class with the labels: a reordering of the classes, one of the usual ones or one that "
        "was found on the other half of the pictures, that agrees significantly better (exact binomial test); or, as a "
        "warning, no more right answers than labels and answers have in common by chance (binomial test), and surely "
        "not half of the rest",
        "ours",
        "answers:label_order",
        {"p": 0.001, "chance": 0.05},
        needs="labels, several of each of at least two classes",
        pictures=8,
        trained=True,
        blind="classes that the pictures do not show",
    ),
    Rule(
        "padding-artefact",
        "the border answers to itself",
        "warning",
        "per layer with weights the step of the channels' means from the outermost ring of positions to the next one, "
        "in deviations of the values inside, median over the channels; over 8 pictures",
        "ours; Alsallakh et al., Mind the Pad, ICLR 2021",
        "borders:padding_artefact",
        {"step": 0.85},
        pictures=8,
        trained=True,
        blind="objects that always lie at the border",
        cost=2,
    ),
    Rule(
        "precision",
        "values near the ends of float16 or bfloat16",
        "warning",
        "largest magnitude of each layer against 65,504, and the share of its values below 6.1e-5 that are not 0, "
        "where its largest is below 0.06 (in bfloat16 against 3.4e38, 1.2e-38 and 1.2e-35); for models in float32: as "
        "a note, but a warning where half of a layer's weights are above 16,376",
        "ranges of IEEE 754 binary16 and of bfloat16",
        "values:precision",
        {"headroom": 4.0, "underflow": 0.1},
        cost=1,
    ),
    Rule(
        "unused-modules",
        "modules with weights that never run",
        "warning",
        "modules with parameters that no forward pass called and whose weights no operation read; a note where they "
        "are as they were made, or belong to a known branch for training",
        "ours",
        "unused:unused_modules",
        {"count": 0.0},
        blind="what runs for other inputs",
        cost=0,
    ),
    Rule(
        "asymmetric-scale",
        "a channel far above the rest",
        "warning",
        "largest magnitude of a channel by the median of the layer's channels, and its deviation likewise, the smaller "
        "of both; of layers with weights and of sums; a note in models with attention, unless the layer's own weights "
        "are as far apart",
        "ours; outlier channels after Dettmers et al., LLM.int8(), NeurIPS 2022",
        "channels:asymmetric_scale",
        {"ratio": 40.0},
        trained=True,
        blind="scales that a quantisation per channel would take care of",
    ),
    Rule(
        "baseline",
        "other numbers than the baseline's",
        "error",
        "per layer and statistic (mean, deviation, zeros, maximum of each picture) the largest difference from the "
        "stored value, for the same pictures, against max(1e-4 of its magnitude, 4 times its spread over repeats); and "
        "digests of weights and pictures, by which the cause is told",
        "ours",
        "baseline.rule:baseline",
        {"tolerance": 1e-4, "spreads": 4.0},
        needs="a baseline of this model",
        blind="of other pictures than the baseline's all but the weights, and how many pictures are unlike them",
    ),
)
