"""Which forward passes `hs.follow` counts, and that a training with odd ones is as it is without: by plain torch."""

from __future__ import annotations

import copy
import math
import random
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import hookscope as hs
from hookscope.hooks.layers.axes import Axes
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.passes import nested
from hookscope.hooks.training.layouts import Learning, Learnt

cross_entropy = nn.functional.cross_entropy
ROWS = torch.randn(9, 5, generator=torch.Generator().manual_seed(4))
CLASSES = torch.arange(9) % 3


def mlp(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, outputs))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def column(folder: Path, layer: str, name: str) -> list[float]:
    found = hs.read_feed(folder)
    return found.column("a", name)[:, found.layers.index(layer)].tolist()  # type: ignore[no-any-return]


def notes(folder: Path) -> str:
    return " ".join(note for look in hs.read_feed(folder).looks for note in look.notes)


def loop(model: nn.Module, steps: int, feed: Any = None, answer: Callable[[], Tensor] | None = None) -> list[Tensor]:
    """Train, and give the weights."""
    optimizer = feed._optimizers[0] if feed is not None and feed._optimizers else sgd(model)
    for _ in range(steps):
        loss = cross_entropy(answer() if answer is not None else model(ROWS), CLASSES)
        loss.backward()
        if feed is not None:
            feed.step(loss=loss)
        optimizer.step()
        optimizer.zero_grad()
    return [each.detach().clone() for each in model.parameters()]


# --- a training is what it is without a feed


class Remembering(nn.Module):
    """Keeps what it computes in every way that a run too many would change: the answer depends on all of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)
        self.losses: list[Tensor] = []
        self.by_name: dict[str, float] = {}
        self.groups: dict[str, list[Tensor]] = {"body": []}
        self.runs, self.mean = 0, torch.zeros(6)
        self.written = torch.zeros(6)
        self.drawn = torch.Generator().manual_seed(7)
        self.numbers, self.python = np.random.default_rng(3), random.Random(3)

    def forward(self, given: Tensor) -> Tensor:
        hidden = self.first(given).relu()
        self.runs += 1
        self.by_name["runs"] = self.by_name.get("runs", 0) + 1
        self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
        self.written.add_(hidden.detach().mean(0))
        self.losses.append(hidden.square().mean())
        self.groups["body"].append(hidden.abs().mean())
        drawn = torch.rand(hidden.shape, generator=self.drawn) > 0.3
        scale = (1 + self.numbers.random() + self.python.random()) / (1 + self.runs + self.by_name["runs"])
        return self.last((hidden - self.mean - self.written) * drawn * scale)  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["alone", "pinned", "nan"])
def test_what_a_model_keeps_is_that_of_its_own_passes(tmp_path: Path, how: str) -> None:
    def train(model: Remembering, feed: Any = None) -> list[Tensor]:
        optimizer = sgd(model)
        for step in range(7):
            loss = cross_entropy(model(ROWS), CLASSES) + sum(model.losses) + sum(model.groups["body"])
            model.losses.clear()
            model.groups["body"].clear()
            loss.backward()
            if feed is not None:
                feed.step(loss=float("nan") if how == "nan" and step == 3 else loss)
            optimizer.step()
            optimizer.zero_grad()
        return list(model.parameters())

    model = Remembering()
    with hs.follow(model, tmp_path / "run", every=3, pinned=ROWS if how == "pinned" else None) as feed:
        found = train(model, feed)
    assert all(torch.equal(one, other) for one, other in zip(found, train(Remembering()), strict=True))
    assert model.runs == 7 and not model.losses


def test_a_hook_of_ones_own_is_called_as_often_as_without_a_feed(tmp_path: Path) -> None:
    model, seen = mlp(), list[int]()
    model[0].register_forward_hook(lambda module, args, output: seen.append(len(output)))
    with hs.follow(model, tmp_path / "run", every=1, optimizer=sgd(model)) as feed:
        loop(model, 3, feed)
    assert seen == [9, 9, 9]


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("measured", [False, True])
def test_within_a_checkpoint_the_training_goes_on(tmp_path: Path, part: bool, measured: bool) -> None:
    def make() -> tuple[nn.Module, nn.Module, Callable[[], Tensor]]:
        model, head = mlp(), nn.Linear(3, 3)
        answer = lambda: head(checkpoint(model, ROWS, use_reentrant=False))  # noqa: E731
        return nn.ModuleList([model, head]), model, answer if part else lambda: answer() * 1

    both, model, answer = make()
    other, _, alone = make()
    other.load_state_dict(both.state_dict())
    with hs.follow(model, tmp_path / "run", every=2, optimizer=sgd(both)) as feed:
        if measured:
            feed.metric("sum")(lambda layer, value: (value.requires_grad_(True) * 2).exp().sum())
        found = loop(both, 4, feed, answer)
    assert all(torch.equal(one, two) for one, two in zip(found, loop(other, 4, None, alone), strict=True))
    assert column(tmp_path / "run", "0", "inputs") == [9, 9]


def test_metrics_that_draw_write_or_run_the_model_change_nothing(tmp_path: Path) -> None:
    def make() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.3), nn.Linear(6, 3))

    model = make()
    with hs.follow(model, tmp_path / "run", every=1, optimizer=sgd(model)) as feed:
        feed.metric("drawn")(lambda layer, value: value.flatten()[torch.randperm(value.numel())[0]] + np.random.rand())
        feed.metric("written")(lambda layer, value: value.clamp_(max=0.1).mean())
        feed.metric("run")(lambda layer, value: model(ROWS).mean())
        found = loop(model, 3, feed)
    assert all(torch.equal(one, two) for one, two in zip(found, loop(make(), 3), strict=True))
    assert column(tmp_path / "run", "0", "inputs") == [9, 9, 9] and not notes(tmp_path / "run")


def test_a_metric_of_accumulated_batches_is_the_mean_by_pictures(tmp_path: Path) -> None:
    model = mlp()
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        feed.metric("largest")(lambda layer, value: value.max())
        for rows in (slice(0, 3), slice(3, 9)):
            cross_entropy(model(ROWS[rows]), CLASSES[rows]).backward()
        feed.step()
    by_hand = (3 * model[0](ROWS[:3]).max().item() + 6 * model[0](ROWS[3:]).max().item()) / 9
    assert hs.read_feed(tmp_path / "run").looks[0].own["largest"][0] == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("how", ["model", "function"])
def test_what_is_compiled_after_follow_compiles_as_often_as_without(tmp_path: Path, how: str) -> None:
    def run(followed: bool) -> tuple[list[int], list[Tensor]]:
        torch._dynamo.reset()
        compiled, model = [0], mlp()

        def backend(graph: Any, inputs: Any) -> Any:
            compiled[0] += 1
            return graph.forward

        feed = hs.follow(model, tmp_path / "run", every=4, optimizer=sgd(model)) if followed else None
        if feed is not None:
            feed.open()
        called: Any = torch.compile(model, backend=backend)
        if how == "function":
            called = torch.compile(lambda rows: model(rows) * 2, backend=backend)
        counts = []

        def answer() -> Tensor:
            result: Tensor = called(ROWS)
            counts.append(compiled[0])
            return result

        weights = loop(model, 9, feed, answer)
        if feed is not None:
            feed.close()
        return counts, weights

    counts, weights = run(True)
    assert counts == [0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert all(torch.allclose(one, two) for one, two in zip(weights, run(False)[1], strict=True))
    assert column(tmp_path / "run", "0", "inputs") == [9, 9, 9]


def test_two_feeds_that_end_in_any_order_leave_compiling_as_it_was(tmp_path: Path) -> None:
    model, counted = mlp(), [0]

    def backend(graph: Any, inputs: Any) -> Any:
        counted[0] += 1
        return graph.forward

    one, two = hs.follow(model, tmp_path / "one"), hs.follow(model, tmp_path / "two")
    one.open()
    two.open()
    one.close()
    torch.compile(mlp(), backend=backend)(ROWS)
    assert not counted[0]
    two.close()
    torch.compile(mlp(), backend=backend)(ROWS)
    assert counted[0]


# --- which passes count


def test_a_discriminators_activations_are_of_its_own_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    maker, judge = nn.Sequential(nn.Linear(4, 5)), mlp(1)
    makes, judges = (torch.optim.SGD(each.parameters(), lr=0.1) for each in (maker, judge))
    means = []
    with hs.follow(judge, tmp_path / "run", every=2, optimizer=judges) as feed:
        for _ in range(5):
            fake = maker(torch.randn(9, 4))
            real, false = judge(ROWS), judge(fake.detach())
            judges.zero_grad()  # behind the forward pass: then it is the backward pass that tells
            (false.mean() - real.mean()).backward()
            means.append(torch.cat([real, false]).mean().item())
            feed.step()
            judges.step()
            makes.zero_grad()
            (-judge(fake).mean()).backward()
            makes.step()
    assert column(tmp_path / "run", "2", "inputs") == [18, 18, 18]
    assert column(tmp_path / "run", "2", "mean") == pytest.approx(means[::2], rel=1e-3)


def _failed(model: nn.Module) -> None:
    with pytest.raises(RuntimeError):
        model(torch.ones(4, 7))


def _validated(model: nn.Module) -> None:
    model.eval()
    model(100 * ROWS)
    model.train()


def _left_out(model: nn.Module) -> None:
    model(100 * ROWS).sum()


def _thrown_away(model: nn.Module) -> None:
    model(100 * ROWS).sum().backward()
    model.zero_grad()


def _set_to_zero(model: nn.Module) -> None:
    model(100 * ROWS).sum().backward()
    model.zero_grad(set_to_none=False)


def _frozen(model: nn.Module) -> None:
    model.requires_grad_(False)
    model((100 * ROWS).requires_grad_()).sum().backward()
    model.requires_grad_(True)


def _by_itself(model: nn.Module) -> None:
    def of_one(weights: dict[str, Tensor], row: Tensor) -> Tensor:
        return functional_call(model, weights, (row[None],)).sum()  # type: ignore[no-any-return]

    vmap(grad(of_one), (None, 0))({name: each.detach() for name, each in model.named_parameters()}, ROWS)


@pytest.mark.parametrize(
    "before",
    [_failed, _validated, _left_out, _thrown_away, _set_to_zero, _frozen, _by_itself],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("when", ["first", "later"])
def test_passes_that_do_not_belong_to_the_step_are_not_counted(
    tmp_path: Path, before: Callable[[nn.Module], None], when: str
) -> None:
    model, means = mlp(), []
    with hs.follow(model, tmp_path / "run", every=1, optimizer=(optimizer := sgd(model))) as feed:
        for step in range(3):
            if when == "first" or step:
                before(model)
            answer = model(ROWS)
            means.append(answer.mean().item())
            cross_entropy(answer, CLASSES).backward()
            feed.step()
            optimizer.step()
            optimizer.zero_grad()
    assert column(tmp_path / "run", "2", "inputs") == [9, 9, 9]
    assert column(tmp_path / "run", "2", "mean") == pytest.approx(means, rel=1e-3, abs=1e-5)
    assert not notes(tmp_path / "run")


class Maps(nn.Module):
    """Convolutions that are trained in evaluation mode, as with frozen statistics."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.body(pictures).mean((2, 3)))  # type: ignore[no-any-return]


LOOKS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "show": lambda model, picture: hs.show(model, picture, ["body.0"]),
    "gradients": lambda model, picture: hs.gradients(model, picture[None]),
}


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "by its parts"])
@pytest.mark.parametrize("when", ["before", "between", "behind"])
@pytest.mark.parametrize("look", LOOKS)
def test_looks_at_the_model_are_no_passes_of_a_training_in_evaluation_mode(
    tmp_path: Path, look: str, when: str, parts: bool
) -> None:
    model, means = Maps().eval(), []
    pictures = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def looked(now: str) -> None:
        if when == now:
            LOOKS[look](model, 5 * pictures[0])

    with (
        warnings.catch_warnings(),
        hs.follow(model, tmp_path / "run", every=1, optimizer=(optimizer := sgd(model))) as feed,
    ):
        warnings.simplefilter("ignore")
        for _ in range(3):
            looked("before")
            answer = model.head(model.body(pictures).mean((2, 3))) if parts else model(pictures)
            looked("between")
            cross_entropy(answer, CLASSES).backward()
            looked("behind")
            means.append(model.body[0](pictures).mean().item() if not parts else math.nan)
            feed.step()
            optimizer.step()
            optimizer.zero_grad()
    first = 1 if parts else 0  # of the first step it is not known yet that parts are called
    assert column(tmp_path / "run", "body.0", "inputs")[first:] == [9] * (3 - first)
    if not parts:
        assert column(tmp_path / "run", "body.0", "mean") == pytest.approx(means, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("how", ["together", "one by one", "zeroed between", "penalty first", "penalty last"])
def test_passes_that_belong_to_one_update_are_counted_together(tmp_path: Path, how: str) -> None:
    model = mlp(1)
    given = ROWS.clone().requires_grad_()

    def penalty() -> Tensor:
        slopes = torch.autograd.grad(model(given).sum(), given, create_graph=True)[0]
        return (slopes.norm(dim=1) - 1).square().mean()

    with hs.follow(model, tmp_path / "run", every=1, optimizer=(optimizer := sgd(model))) as feed:
        for _ in range(2):
            if how == "one by one":
                model(ROWS).mean().backward()
                model(2 * ROWS).mean().backward()
            else:
                more = penalty() if how == "penalty first" else 0
                loss = model(ROWS).mean() + model(2 * ROWS).mean() + more
                loss = loss + (penalty() if how == "penalty last" else 0)
                if how == "zeroed between":
                    optimizer.zero_grad()
                loss.backward()
            feed.step()
            optimizer.step()
            if how != "zeroed between":
                optimizer.zero_grad()
    pictures = 27 if "penalty" in how else 18
    assert column(tmp_path / "run", "0", "inputs") == [pictures, pictures]


def test_of_an_optimiser_that_evaluates_several_times_the_last_evaluation_counts(tmp_path: Path) -> None:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    means = []

    def closure() -> Tensor:
        answer = model(ROWS)
        optimizer.zero_grad()
        means.append(answer.mean().item())
        loss = cross_entropy(answer, CLASSES)
        loss.backward()
        return loss

    with pytest.warns(UserWarning, match="runs the model itself"):
        with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
            optimizer.step(closure)  # type: ignore[arg-type]
            feed.step()
    assert len(means) > 1 and column(tmp_path / "run", "2", "inputs") == [9]
    assert column(tmp_path / "run", "2", "mean") == pytest.approx(means[-1:], rel=1e-3)


@pytest.mark.parametrize("part", [False, True])
def test_a_feed_does_not_count_what_another_runs(tmp_path: Path, part: bool) -> None:
    body = mlp()
    model = nn.Sequential(body, nn.Linear(3, 3))
    with (
        hs.follow(model, tmp_path / "one", every=1, pinned=ROWS) as one,
        hs.follow(body if part else model, tmp_path / "two", every=1, pinned=ROWS) as two,
    ):
        mean = body[0](ROWS).mean().item()
        for _ in range(2):
            cross_entropy(model(ROWS), CLASSES).backward()
            one.step()
            two.step()
            model.zero_grad()
    for folder, layer in (("one", "0.0"), ("two", "0" if part else "0.0")):
        assert column(tmp_path / folder, layer, "inputs") == [9, 9]
        assert column(tmp_path / folder, layer, "mean") == pytest.approx([mean, mean], rel=1e-3)


def test_of_a_model_that_calls_itself_every_layer_is_seen(tmp_path: Path) -> None:
    class Recursive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, rows: Tensor, depth: int = 2) -> Tensor:
            if not depth:
                return rows
            inner: Tensor = self(self.body(rows), depth - 1)
            return self.head(inner) if depth == 2 else inner  # type: ignore[no-any-return]

    model = Recursive()
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        answer = model(ROWS)
        cross_entropy(answer, CLASSES).backward()
        feed.step()
    assert hs.read_feed(tmp_path / "run").looks[0].layers == ("body", "body:2", "head")
    assert column(tmp_path / "run", "head", "mean") == pytest.approx([answer.mean().item()], rel=1e-3)


# --- which layers, and what their axes mean


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.head = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Linear(6, 3)
        with torch.no_grad():
            self.conv.weight[:2], self.conv.bias[:2] = 0, -1  # type: ignore[index]

    def features(self, pictures: Tensor) -> Tensor:
        return self.relu(self.conv(pictures)).mean((2, 3))  # type: ignore[no-any-return]

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.features(pictures))  # type: ignore[no-any-return]


@pytest.mark.parametrize("by_parts", [False, True])
def test_a_model_called_by_its_parts_has_channels_and_pictures(tmp_path: Path, by_parts: bool) -> None:
    model, pictures = Parts(), torch.rand(12, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with hs.follow(model, tmp_path / "run", every=1, optimizer=torch.optim.SGD(model.parameters(), lr=0.0)) as feed:
            for _ in range(5):
                for half in (pictures[:6], pictures[6:]):
                    answer = model.head(model.features(half)) if by_parts else model(half)
                    cross_entropy(answer, torch.arange(6) % 3).backward()
                feed.step()
                feed._optimizers[0].step()
                model.zero_grad()
    assert column(tmp_path / "run", "relu", "inputs")[1:] == [12] * 4
    assert column(tmp_path / "run", "relu", "channels")[1:] == [6] * 4
    assert column(tmp_path / "run", "relu", "dead")[1:] == [2] * 4


def test_layers_with_weights_and_children_have_activations(tmp_path: Path) -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.zeros(4))
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = parametrizations.spectral_norm(nn.Linear(4, 3))
            self.seen: list[Tensor] = []

        def forward(self, tokens: Tensor) -> Tensor:
            tokens = tokens + self.place
            tokens = self.attention(tokens, tokens, tokens)[0]
            answer: Tensor = self.head(tokens.mean(1))
            self.seen = [tokens.detach(), answer.detach()]
            return answer

    model = Attending()
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        cross_entropy(model(torch.rand(9, 7, 4)), CLASSES).backward()
        feed.step()
    look = hs.read_feed(tmp_path / "run").looks[0]
    for layer, value in zip(("attention", "head"), model.seen, strict=True):
        assert look.of(layer)["a", "rms"] == pytest.approx(value.square().mean().sqrt().item(), rel=1e-4)
        assert look.of(layer)["a", "inputs"] == 9
    assert ("a", "rms") not in look.of("")


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.place = nn.Conv2d(3, 8, 2, 2), nn.Parameter(torch.zeros(16, 1, 8))
        self.blocks = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1, enable_nested_tensor=False)
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.patches(pictures).relu().flatten(2).permute(2, 0, 1) + self.place
        tokens = self.blocks(tokens)
        return self.head(self.norm(tokens.mean(0)).relu_())  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [Parts, Tokens])
def test_axes_learnt_from_a_batch_are_those_of_a_run_of_one_picture(make: Callable[[], nn.Module]) -> None:
    model, pictures, learnt = make(), torch.rand(5, 3, 8, 8), Learnt()
    described = describe(model, pictures[:1], training=True)
    with (learning := Learning(model, (pictures,), learnt)).going_on():
        learning.end(model, (pictures,), model(pictures))
    known = Axes(described)
    for info in described:
        for number, call in enumerate(info.calls):
            value = torch.empty(call.shape)
            assert learnt.knows(info.name, number), info.name
            assert learnt.channel(info.name, number, value, model) == known.channel(info.name, number, value, model)
            assert learnt.image(info.name, number, value) == known.image(info.name, number, value), info.name


def test_a_layer_that_did_not_run_at_first_is_learnt_of_later(tmp_path: Path) -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.relu, self.head, self.late = nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3), False

        def forward(self, rows: Tensor) -> Tensor:
            hidden = self.body(rows)
            return self.head(self.relu(hidden) if self.late else hidden)  # type: ignore[no-any-return]

    model = Late()
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        for step in range(3):
            model.late = step > 0
            cross_entropy(model(ROWS), CLASSES).backward()
            feed.step()
            model.zero_grad()
    assert column(tmp_path / "run", "relu", "channels")[2] == 6


def test_operations_of_the_model_itself_are_seen_and_those_that_never_happen_are_told(tmp_path: Path) -> None:
    class Acting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp()

        def forward(self, rows: Tensor) -> Tensor:
            return torch.tanh(self.body(rows))

    model = Acting()
    with pytest.warns(UserWarning, match="operation 'body/nosuch' did not happen"):
        with hs.follow(model, tmp_path / "run", every=1, layers=["/tanh", "body/nosuch", ""]) as feed:
            for _ in range(2):
                answer = model(ROWS)
                cross_entropy(answer, CLASSES).backward()
                feed.step()
                model.zero_grad()
    assert column(tmp_path / "run", "/tanh", "mean") == pytest.approx([answer.mean().item()] * 2, rel=1e-3)
    assert column(tmp_path / "run", "", "inputs") == [9, 9]


def test_a_head_that_is_replaced_is_followed_and_an_optimiser_that_is_not_used_is_told(tmp_path: Path) -> None:
    model = mlp()
    optimizer = sgd(model)
    with (
        warnings.catch_warnings(record=True) as said,
        hs.follow(model, tmp_path / "run", every=2, optimizer=optimizer) as feed,
    ):
        warnings.simplefilter("always")
        for step in range(6):
            if step == 1:
                model[2] = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
                optimizer = sgd(model)
            cross_entropy(model(ROWS), CLASSES).backward()
            feed.step()
            optimizer.step()
            optimizer.zero_grad()
    assert [str(each.message)[:16] for each in said] == ["Layers of the mo", "No update of the"]
    look = hs.read_feed(tmp_path / "run").looks[1]
    assert look.of("2.1")["a", "channels"] == 4 and look.of("2.2")["a", "rms"] > 0


def test_maps_of_a_layer_that_was_taken_away_end_and_the_others_go_on(tmp_path: Path) -> None:
    body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
    model = nn.Sequential(body, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 3))
    pictures = torch.rand(9, 3, 8, 8)
    with pytest.warns(UserWarning, match="Layers of the model are others"):
        with hs.follow(model, tmp_path / "run", every=1, pinned=pictures) as feed:
            for step in range(2):
                if step:
                    model[0] = nn.Conv2d(3, 6, 3)
                cross_entropy(model(pictures), CLASSES).backward()
                feed.step()
    found = hs.read_feed(tmp_path / "run")
    first, second = found.maps(0), found.maps(1)
    assert first is not None and second is not None
    assert set(first.maps) == {"0.0", "0.1", "1"} and set(second.maps) == {"1"}


# --- what is said


def test_an_evaluation_mode_that_is_trained_in_is_told_as_that(tmp_path: Path) -> None:
    model = mlp()
    with pytest.warns(UserWarning, match="Call model.train.. before the step"):
        with hs.follow(model, tmp_path / "run", every=1) as feed:
            for _ in range(2):
                cross_entropy(model(ROWS), CLASSES).backward()
                feed.step()
                model.eval()
    assert np.isnan(column(tmp_path / "run", "0", "rms")[1])


def test_a_training_in_another_thread_than_the_one_that_opened_is_told_as_that(tmp_path: Path) -> None:
    model = mlp()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with hs.follow(model, tmp_path / "run", every=1) as feed:
            thread = threading.Thread(target=lambda: loop(model, 2, feed))
            thread.start()
            thread.join()
    assert [str(each.message)[:43] for each in caught] == ["The model ran in another thread than the on"]
    assert np.isfinite(column(tmp_path / "run", "0", "rms")).tolist() == [False, True]


def test_a_layer_called_more_than_eight_times_is_told_once(tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, rows: Tensor) -> Tensor:
            for _ in range(10):
                rows = self.cell(rows)
            return self.head(rows)  # type: ignore[no-any-return]

    model = Recurrent()
    with pytest.warns(UserWarning, match="'cell' was called more than 8 times") as found:
        with hs.follow(model, tmp_path / "run", every=1) as feed:
            for _ in range(2):
                cross_entropy(model(ROWS), CLASSES).backward()
                feed.step()
    assert len(found) == 1 and "cell:8" in hs.read_feed(tmp_path / "run").layers


def test_nothing_is_left_on_the_model_or_its_weights(tmp_path: Path) -> None:
    model = mlp()
    before = copy.deepcopy({key: value for key, value in vars(model[0]).items() if key != "_parameters"})
    with hs.follow(model, tmp_path / "run", every=1, pinned=ROWS) as feed:
        loop(model, 2, feed)
    assert {key: value for key, value in vars(model[0]).items() if key != "_parameters"} == before
    assert all(each._post_accumulate_grad_hooks is None for _, each in nested.tensors(dict(model.named_parameters())))
