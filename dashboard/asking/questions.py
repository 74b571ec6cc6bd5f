"""What can be asked of a model, and the keys under which answers are kept.

A question is a small frozen dataclass under `@question`; a unit, the smallest thing that is computed once and kept, is
a question about a side. Whatever lists, words, sends, batches or answers questions reads `QUESTIONS`:

    @question("counting", Count, takes_minutes=True)
    @dataclass(frozen=True)
    class CountTo:
        number: int

    Unit(Side("embedded", digest), CountTo(60))
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.asking.targets import Target
from hookscope.hooks.methods import INPUTS, MAPS, Rows
from hookscope.hooks.results import effects, likeness, looks, parting, receptive, restoring, summaries, sweeps, weights
from hookscope.hooks.results.findings import CheckUp, CheckUpNow
from hookscope.hooks.results.prunable import Prunables, Pruned
from hookscope.hooks.results.targets import OWN
from hookscope.hooks.results.typed import plain

KindT = TypeVar("KindT", bound=type[Any])


@dataclass(frozen=True)
class Question:
    """Something that can be asked.

    Attributes:
        kind: the dataclass. title: for people, "the prediction"; from a question, where it depends on that.
        results: the types of its answers.
        takes_minutes: whether quick questions are answered in between; from a question, where it depends on that.
        reads_answer: whether it matters how the model's answer is read; it does where there is a target.
        runs_model: whether it is about what the model computes, and not about its weights alone.
        of_set: whether it is about a set of pictures, whose version stands in the place of a picture's digest.
    """

    kind: type[Any]
    title: str | Callable[[Any], str]
    results: tuple[type[Any], ...]
    takes_minutes: bool | Callable[[Any], bool] = False
    reads_answer: bool = False
    runs_model: bool = True
    of_set: bool = False

    @property
    def name(self) -> str:
        """The kind's, which stands in the keys of kept answers."""
        return self.kind.__name__

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """The fields that all those have in common which one run of the model answers."""
        return tuple(each.name for each in dataclasses.fields(self.kind) if each.name not in ("layer", "call"))


QUESTIONS: Rows[Question] = Rows()


class _Kinds(Mapping[str, type[Any]]):
    """The kinds of questions by name, as they are read from what another process sends."""

    def __getitem__(self, name: str) -> type[Any]:
        return QUESTIONS[name].kind

    def __iter__(self) -> Iterator[str]:
        return iter(QUESTIONS)

    def __len__(self) -> int:
        return len(QUESTIONS)


KINDS = _Kinds()


def question(
    title: str | Callable[[Any], str],
    *results: type[Any],
    takes_minutes: bool | Callable[[Any], bool] = False,
    reads_answer: bool = False,
    runs_model: bool = True,
    of_set: bool = False,
) -> Callable[[KindT], KindT]:
    """Have a frozen dataclass be a question; see `Question` for the arguments.

    Its fields are texts, whole numbers, and dataclasses of such. One with `layer` and `call` is about a layer: those
    that differ in nothing else are answered by one run.

    Raises:
        ValueError: there is one of that name.
    """

    def add(kind: KindT) -> KindT:
        fields = {each.name for each in dataclasses.fields(kind)}
        row = Question(kind, title, results, takes_minutes, reads_answer or "target" in fields, runs_model, of_set)
        QUESTIONS.add(row)
        return kind

    return add


@question("the prediction", looks.Prediction, reads_answer=True)
@dataclass(frozen=True, slots=True)
class PredictionOf:
    """What does the model answer, and what was it given?

    Attributes:
        shown: which channels of that are seen as red, green and blue, as `inputs.colours` writes it; "" for the usual.
    """

    shown: str = ""


@question("the activation", looks.Activation)
@dataclass(frozen=True, slots=True)
class ActivationOf:
    """What did this call of this layer compute? The model itself is the layer ""."""

    layer: str
    call: int = 0


@question("the attention", looks.AttentionMaps)
@dataclass(frozen=True, slots=True)
class AttentionOf:
    """Where do the heads of this layer look?"""

    layer: str
    call: int = 0


@question(
    lambda asked: MAPS[asked.method].title,
    looks.GradCam,
    takes_minutes=lambda asked: MAPS[asked.method].rule is None,
)
@dataclass(frozen=True, slots=True)
class ClassMap:
    """Where does this layer speak for the target, by a method of `methods.MAPS`?"""

    layer: str
    call: int = 0
    method: str = next(iter(MAPS))
    target: Target = OWN

    def __post_init__(self) -> None:
        MAPS.find(self.method)


@question("each channel's share", effects.ChannelShares)
@dataclass(frozen=True, slots=True)
class SharesOf:
    """How much of the target does each channel of this layer speak for, by gradient x activation?"""

    layer: str
    call: int = 0
    target: Target = OWN


@question("each channel's effect", effects.Effects, takes_minutes=True)
@dataclass(frozen=True, slots=True)
class EffectsOf:
    """What does muting each channel of this layer change of the target, measured?"""

    layer: str
    call: int = 0
    target: Target = OWN


@question(
    lambda asked: INPUTS[asked.method].title,
    looks.InputAttribution,
    takes_minutes=lambda asked: INPUTS[asked.method].baseline,
)
@dataclass(frozen=True, slots=True)
class InputMap:
    """Which pixels speak for the target, by a method of `methods.INPUTS`?

    Attributes:
        picture: of a model that takes two, which of them: 0 or 1.
    """

    method: str
    target: Target = OWN
    picture: int = 0

    def __post_init__(self) -> None:
        INPUTS.find(self.method)


@question("gradients by layer", looks.Gradients)
@dataclass(frozen=True, slots=True)
class GradientsOf:
    """How large is the target's gradient at every layer?"""

    target: Target = OWN


@question("numbers of every layer", summaries.Survey)
@dataclass(frozen=True, slots=True)
class SurveyOf:
    """The numbers of `methods.METRICS` of every layer; those of the target's gradient too, unless it is None."""

    target: Target | None = None


@question("the weights", weights.Weights, runs_model=False)
@dataclass(frozen=True, slots=True)
class WeightsOf:
    """What has this layer learned? It is about the side's model alone."""

    layer: str


@question("how far A and B are apart", parting.Parting)
@dataclass(frozen=True, slots=True)
class PartingOf:
    """How far is another side apart from this one at every layer?

    Attributes:
        against: the other side, of this model or of another one of its architecture.
    """

    against: Side


@question("how far any two pictures are apart", parting.Calibration, takes_minutes=True)
@dataclass(frozen=True, slots=True)
class CalibrationOf:
    """How far are different photographs apart at every layer?

    Attributes:
        pictures: under which inputs are fetched: digests, or keys of samples. files: a hash of what is behind keys.
    """

    pictures: tuple[str, ...]
    files: str = ""


@question("what comes back of the answer", restoring.Restored, takes_minutes=True)
@dataclass(frozen=True, slots=True)
class RestoredOf:
    """What of this side's answer comes back when each layer of another side's run gets this one's values?

    Attributes:
        against: the other side, of the same model. target, target_b: what of each side's answer is compared.
    """

    against: Side
    target: Target = OWN
    target_b: Target = OWN


@question("what comes back of the answer", restoring.RestoredParts, takes_minutes=True)
@dataclass(frozen=True, slots=True)
class RestoredPartsOf:
    """The same of one layer's channels or positions, one by one.

    Attributes:
        place: the layer and its call, as `asking.layer_keys` writes them.
    """

    against: Side
    place: str
    by: Literal["channels", "positions"] = "channels"
    target: Target = OWN
    target_b: Target = OWN


@question("the likeness of layers", likeness.Grams, takes_minutes=True)
@dataclass(frozen=True, slots=True)
class GramsOf:
    """How alike does each layer find each two of several pictures? The side's own picture is one of these.

    Attributes:
        pictures: SHA-256 of the pixels of each.
    """

    pictures: tuple[str, ...]


@question("a set of pictures", sweeps.Sweep, sweeps.SweepNow, takes_minutes=True, reads_answer=True, of_set=True)
@dataclass(frozen=True, slots=True)
class SweepOf:
    """What does the model do over a set of pictures? Asked for a part of the set at a time, each with all before it.

    Attributes:
        total: how many pictures the set has. seen: how many of them have been looked at, or refused, before.
        seconds: after which the answer is given, with what was looked at by then.
    """

    total: int
    seen: int
    seconds: int


@question("where units look", receptive.ReceptiveField, of_set=True)
@dataclass(frozen=True, slots=True)
class FieldOf:
    """On which part of a picture does each place of this layer's maps depend? Of no picture in particular."""

    layer: str
    call: int = 0


@question("which channels could be removed", Prunables, of_set=True)
@dataclass(frozen=True, slots=True)
class PrunableOf:
    """Of which layers could channels be removed, and what would that save?

    Attributes:
        total: how many pictures the set has, of which one is looked at if the model takes any size.
    """

    total: int


@question(lambda asked: f"what of {asked.place} could go", Pruned, takes_minutes=True, reads_answer=True, of_set=True)
@dataclass(frozen=True, slots=True)
class PruningOf:
    """How many of a layer's channels can go, and how often does the model answer something else without them?

    Attributes:
        place: the layer and its call, as `asking.layer_keys` writes them; each layer is a run of its own.
        total: how many pictures the set has. pictures: how many are looked at, the first that can be read.
        by: what ranks the channels.
        orders: how many random orders are measured beside it.
        labels: of the set's first pictures the class that each shows, -1 for none.
    """

    place: str
    total: int
    pictures: int
    by: Literal["taylor", "gate"] = "taylor"
    orders: int = 0
    labels: tuple[int, ...] = ()


@question("what is wrong", CheckUp, CheckUpNow, takes_minutes=True, reads_answer=True, of_set=True)
@dataclass(frozen=True, slots=True)
class CheckUpOf:
    """What is usually wrong with a model, or with what it is given, is it here?

    Attributes:
        pictures: how many are looked at, the first of `numbers` that can be read.
        numbers: of pictures of the set. labels: the class that each of these shows, -1 for none; () for none at all.
        baseline: of the stored baseline that it is held against, by what it is known; "" for none.
    """

    pictures: int
    numbers: tuple[int, ...]
    labels: tuple[int, ...] = ()
    baseline: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """One question about one side.

    Attributes:
        question: of one of the `KINDS`.
    """

    side: Side
    question: Annotated[Any, KINDS]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # a page may ask thousands at once, and each is looked up in a dozen tables
        object.__setattr__(self, "_hash", hash((self.side, self.question)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def model(self) -> str:
        """The side's."""
        return self.side.model

    @property
    def against(self) -> Side | None:
        """The other side that the question is about too; None if it is about one."""
        found: Side | None = getattr(self.question, "against", None)
        return found

    @property
    def other_model(self) -> str:
        """The name of that side's model, if it is another one; else ""."""
        return "" if self.against is None or self.against.model == self.side.model else self.against.model

    @property
    def layer(self) -> str:
        """Dotted name of the layer that the question is about; "" for the model itself."""
        return str(getattr(self.question, "layer", ""))

    @property
    def call(self) -> int:
        """Which call of the layer, from 0."""
        return int(getattr(self.question, "call", 0))

    @property
    def row(self) -> Question:
        """What is known of such questions."""
        return QUESTIONS[type(self.question).__name__]

    @property
    def title(self) -> str:
        """What is asked, for people."""
        title = self.row.title
        return title if isinstance(title, str) else title(self.question)

    @property
    def takes_minutes(self) -> bool:
        """Whether quick questions are answered in between."""
        takes = self.row.takes_minutes
        return takes if isinstance(takes, bool) else takes(self.question)

    def alike(self, other: Unit) -> bool:
        """Whether one run of the model answers both: they differ in nothing but layer and call."""
        mine, theirs = self.question, other.question
        if self.side != other.side or type(mine) is not type(theirs):
            return False
        return all(getattr(mine, name) == getattr(theirs, name) for name in self.row.shared)

    def key(self, fingerprint: str, other: str = "") -> str:
        """The cache key: SHA-256 over the question and what may change its answer.

        Arguments:
            fingerprint: the loaded model's identity (spec, weights' hash, our version, torch's), in place of its name.
            other: the same of the other side's model, where that is another one.
        """
        side, question = self.side, self.question
        if self.against is not None:
            question = dataclasses.replace(question, against=dataclasses.replace(self.against, model=other))
        pictures = [side.input, side.second] if side.second else side.input
        about = [fingerprint, pictures, plain(side.preparation), plain(side.reading), plain(question)]
        about += [side.captions] if side.captions else []
        about += [plain(side.edits)] if side.edits else []
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
