"""What of a layer could go over a set, asked of a worker: the numbers of the library, and of channels muted by hand."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_models import digits
from pruned_models import COUNT, write_models
from served import until
from tempo import limit
from torch import Tensor, nn

import hookscope as hs
from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.questions import PredictionOf, PrunableOf, PruningOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.drawing.pruning_figure import curve_csv, pruning_figure
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.inputs.decoder import Decoder
from hookscope.dashboard.inputs.store import InputRefused, InputStore
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.pictures import could_go
from hookscope.dashboard.panels.pictures.looked import Looked, look_at
from hookscope.dashboard.sets import reading
from hookscope.dashboard.sets.store import SetStore, key_of
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.dashboard.worker import pruning
from hookscope.dashboard.worker import reading as first_pictures
from hookscope.dashboard.worker.in_thread import WorkerThread
from hookscope.hooks.datasets.pruning import curve_as_measured
from hookscope.hooks.errors import HooksError
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.importance import indices
from hookscope.hooks.results.prunable import Pruned

WANTED = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("pruned"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LocalEngine]:
    names = ("planted", "slow", "colours", "regions")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for module in ("digits_net", "pruned_net"):  # another test's
            sys.modules.pop(module, None)
        models = [ModelOptions(f"pruned_net:{name}", name) for name in names]
        found = LocalEngine(models, device="cpu", start_worker=WorkerThread)
        for name in names:
            found.open(name)
            until(lambda name=name: found.state(name).phase == "ready", limit(60.0), found.state(name).sentence)
        yield found
        found.close()
        for module in ("digits_net", "pruned_net"):
            sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def net(engine: LocalEngine) -> nn.Module:
    """The planted network, built anew: the oracle."""
    found: nn.Module = sys.modules["pruned_net"].planted()[0]
    return found


class Desk:
    """What a server holds, in a folder of its own."""

    def __init__(self, engine: LocalEngine, folder: Path, place: Path) -> None:
        self.engine = engine
        self.inputs = InputStore(place / "inputs", 2**26)
        self.store = SetStore(place / "sets", {"digits": folder / "set", "colours": folder / "colours"}, self.inputs)
        self.sweeps = Sweeps(engine, self.store, place / "found")
        self.service = Service(engine, Cache(place / "cache", 2**26), self.inputs, sweeps=self.sweeps)
        self.pictures = self.store.get(key_of("digits"))
        self.number = 0

    def unit(self, place: str, model: str = "planted", **more: Any) -> Unit:
        """What of a layer could go, over the first pictures, with their labels."""
        labels = tuple(int(member.group) for member in self.pictures.members)
        asked = PruningOf(place, len(labels), **{"pictures": WANTED, "labels": labels, **more})
        return Unit(Side(model, self.pictures.version), asked)

    def ask(self, *units: Unit, page: str = "page") -> Iterator[dict[Unit, Any]]:
        """What is known after each news, by unit; the last is the answer."""
        self.number += 1
        known: dict[Unit, Any] = {}

        def note(answers: Answers) -> list[Update]:
            known.update({unit: answer.result for unit, answer in answers.items()})
            return []

        part = Part("asked", units, (), note)
        name = self.service.ask(page, [part], {}, self.number)
        for _ in self.service.updates(name, lambda: False):
            yield dict(known)

    def answer(self, *units: Unit) -> list[Any]:
        """The answers."""
        *_, last = self.ask(*units)
        return [last[unit] for unit in units]

    def members(self) -> list[int]:
        """Which digits the question is over: the first of the set that are pictures."""
        there = [each for each in self.pictures.members if each.name != "broken.png"]
        return [int(each.name.removesuffix(".png")) for each in there[:WANTED]]

    def close(self) -> None:
        self.service.close()
        self.sweeps.close()
        self.store.close()
        self.inputs.close()


@pytest.fixture
def desk(engine: LocalEngine, folder: Path, tmp_path: Path) -> Iterator[Desk]:
    found = Desk(engine, folder, tmp_path)
    yield found
    found.close()


def first_classes(net: nn.Module, pictures: Tensor, layer: str = "", channels: Sequence[int] = ()) -> np.ndarray:
    """The first class of each picture with channels of a layer's output set to 0, by a hook that is none of ours."""

    def zero(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        changed = output.clone()
        changed[:, list(channels)] = 0
        return changed

    handle = net.get_submodule(layer).register_forward_hook(zero) if layer else None
    with torch.no_grad():
        found: np.ndarray = net(pictures).argmax(1).numpy()
    if handle is not None:
        handle.remove()
    return found


def test_it_is_the_librarys_and_that_of_channels_muted_by_hand(desk: Desk, net: nn.Module) -> None:
    pictures, classes = (each[desk.members()] for each in digits())
    (found,) = desk.answer(desk.unit("conv2", orders=2))
    assert isinstance(found, Pruned)
    curve = found.curve
    assert (curve.pictures, curve.labelled, curve.channels, curve.removal.at) == (WANTED, WANTED, 16, "relu2")

    (matters,) = hs.importance(net, pictures.split(5), ["conv2"])
    np.testing.assert_allclose(found.importance.taylor, matters.taylor, rtol=1e-4)
    expected = hs.prune_curve(net, [(pictures, classes)], "conv2", curve.order, random_orders=2)
    points = np.isin(curve.counts, expected.counts)  # it has some more, of few channels
    np.testing.assert_array_equal(curve.agreed[:, points], expected.agreed)
    np.testing.assert_array_equal(curve.right[:, points], expected.right)
    np.testing.assert_allclose(curve.divergences[:, points], expected.divergences, rtol=1e-3, atol=1e-6)

    whole, labels = first_classes(net, pictures), classes.numpy()
    assert curve.agreed.min() < WANTED  # else the comparison below would say nothing
    for row, order in enumerate((curve.order, *curve.random_orders)):
        for point, count in enumerate(curve.counts):
            muted = first_classes(net, pictures, "relu2", order[:count].tolist())
            assert curve.agreed[row, point] == (muted == whole).sum()
            assert curve.right[row, point] == (muted == labels).sum()


def test_exactly_the_dead_channels_can_go_when_no_answer_may_change(desk: Desk) -> None:
    """A channel for each of red, green and blue, without which a picture of that colour is of no class; three dead."""
    pictures = desk.store.get(key_of("colours"))
    for by in ("taylor", "gate"):
        unit = Unit(Side("colours", pictures.version), PruningOf("0", 9, 9, by))  # type: ignore[arg-type]
        (found,) = desk.answer(unit)
        can_go = found.curve.removable(0)
        assert can_go.indices.tolist() == indices(found.curve, 0) == [0, 2, 5] and found.curve.pictures == 9
        assert can_go.parameters == 3 * (3 + 1 + 4)  # filters and biases, and what the head reads of them
        gone = found.curve.counts.tolist().index(4)
        assert found.curve.agreed[0, gone] == 6  # the three pictures of one colour
        assert (found.importance.gate[[0, 2, 5]] == 0).all() and (found.importance.gate[[1, 3, 4]] > 0).all()


def test_which_layers_could_go_and_what_each_channel_saves(desk: Desk, net: nn.Module) -> None:
    (found,) = desk.answer(Unit(Side("planted", desk.pictures.version), PrunableOf(COUNT + 1)))
    assert [(each.layer, each.channels) for each in found.layers] == [("conv1", 8), ("conv2", 16), ("conv3", 16)]
    by_name = {each.layer: each for each in found.layers}
    assert all(each.removal.exact for each in found.layers)
    assert by_name["conv1"].parameters == 8 * (3 * 9 + 1 + 16 * 9)
    assert by_name["conv3"].parameters == 16 * (16 * 9 + 1 + 16 * 10)
    assert [each.layer for each in found.largest_first] == ["conv3", "conv2", "conv1"]


def test_what_cannot_be_measured_says_why_for_good(desk: Desk) -> None:
    asked = [desk.unit("fc"), desk.unit("relu9"), desk.unit("0", "regions"), desk.unit("conv2:1")]
    answered, unknown, regions, again = (desk.answer(unit)[0] for unit in asked)
    assert "gives the answer itself" in answered.sentence and "no layer 'relu9'" in unknown.sentence
    assert "is no list of classes" in regions.sentence and "conv2" in again.sentence
    assert all(isinstance(each, Failure) and each.final for each in (answered, unknown, regions, again))


def test_a_layer_that_is_no_convolution_is_muted_and_said_not_to_be_removed(desk: Desk) -> None:
    (found,) = desk.answer(desk.unit("relu2"))
    assert not found.curve.removal.exact and found.curve.pictures == WANTED
    with pytest.raises(HooksError, match="None of its parameters are filters"):
        indices(found.curve, 0)


def test_pictures_that_cannot_be_read_are_passed_over(
    desk: Desk, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [each.name for each in desk.pictures.members[:WANTED]]  # and not as many as other tests: those are held
    read, refused = desk.store.read, {0, 5}

    def reads(version: str, number: int) -> bytes:
        if number in refused:
            raise InputRefused("It is damaged.")
        return read(version, number)

    monkeypatch.setattr(desk.store, "read", reads)
    (found,) = desk.answer(desk.unit("conv3", pictures=20))
    assert found.curve.pictures == 20
    gone = (first[0], first[5], "broken.png")
    left = [each.name for each in desk.pictures.members if each.name not in gone][:20]
    pictures, classes = (each[[int(name[:3]) for name in left]] for each in digits())
    expected = hs.prune_curve(net, [(pictures, classes)], "conv3", found.curve.order, random_orders=0)
    points = np.isin(found.curve.counts, expected.counts)  # it has some more, of few channels
    np.testing.assert_array_equal(found.curve.agreed[0, points], expected.agreed[0])
    np.testing.assert_array_equal(found.curve.right[0, points], expected.right[0])

    refused |= set(range(COUNT + 1))
    (nothing,) = desk.answer(desk.unit("conv3", pictures=9))
    assert nothing.sentence.endswith("can be read. Of one it is said: It is damaged.")


def test_where_a_model_takes_any_size_the_sets_own_pictures_say_which(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = desk.answer(desk.unit("conv2", pictures=WANTED - 2))

    def no_size(model: Any) -> Tensor:
        raise HooksError("This model takes pictures of any size.")

    monkeypatch.setattr(pruning, "blank", no_size)
    (layers,) = desk.answer(Unit(Side("planted", desk.pictures.version), PrunableOf(COUNT)))
    assert [each.layer for each in layers.layers] == ["conv1", "conv2", "conv3"]
    desk.answer(desk.unit("conv1", pictures=5))  # another set of pictures comes into the place of the first
    (found,) = desk.answer(desk.unit("conv2", pictures=WANTED - 2, orders=1))
    np.testing.assert_array_equal(found.curve.agreed[0], expected.curve.agreed[0])


def test_what_was_stopped_goes_on_where_it_was(desk: Desk) -> None:
    unit = desk.unit("conv2", "slow", orders=1)
    done = 0
    for known in desk.ask(unit):  # and is left in the middle
        if isinstance(known.get(unit), Pruned) and (done := known[unit].curve.pictures) >= 3:
            break
    assert 3 <= done < WANTED
    seen = [known[unit] for known in desk.ask(unit) if isinstance(known.get(unit), Pruned)]
    assert seen[0].curve.pictures >= done and seen[-1].curve.pictures == WANTED
    (whole,) = desk.answer(desk.unit("conv2", "planted", orders=1))
    np.testing.assert_array_equal(seen[-1].curve.agreed, whole.curve.agreed)
    np.testing.assert_allclose(seen[-1].curve.divergences, whole.curve.divergences, rtol=1e-4, atol=1e-9)
    taken = desk.engine.state("slow").work.taken
    assert isinstance(desk.answer(unit)[0], Pruned) and desk.engine.state("slow").work.taken == taken  # it is kept


def test_every_layer_comes_by_itself_and_is_kept_when_the_rest_is_stopped(desk: Desk) -> None:
    units = [desk.unit(layer, "slow", pictures=8) for layer in ("conv3", "conv2", "conv1")]
    for known in desk.ask(*units):
        if isinstance(known.get(units[1]), Pruned):
            assert known[units[0]].curve.pictures == 8  # the first is whole before the second begins
            desk.service.stop("page", "asked")
    answers = [known[unit] for unit in units]
    assert isinstance(answers[0], Pruned) and all(isinstance(each, Failure) for each in answers[1:])
    assert "Stopped" in answers[1].sentence and "Stopped" in answers[2].sentence
    taken = desk.engine.state("slow").work.taken
    again = desk.answer(*units)
    assert [each.curve.layer for each in again] == ["conv3", "conv2", "conv1"]
    assert desk.engine.state("slow").work.taken == taken + 2  # not the first one


def test_two_people_are_answered_by_one_run_and_each_may_leave(desk: Desk) -> None:
    unit, other = desk.unit("conv3", "slow", pictures=10), desk.unit("conv1", "slow", pictures=10)
    taken = desk.engine.state("slow").work.taken
    known: list[dict[Unit, Any]] = []

    def read() -> None:
        known.extend(desk.ask(unit, other, page="second"))

    first = desk.ask(unit, page="first")
    next(each for each in first if isinstance(each.get(unit), Pruned))
    second = threading.Thread(target=read)
    second.start()
    until(lambda: known, limit(30.0))
    first.close()  # the first one leaves, and the other one's answer comes all the same
    second.join(60)
    assert known[-1][unit].complete and known[-1][other].curve.layer == "conv1"
    assert desk.engine.state("slow").work.taken == taken + 2


def test_clicks_are_answered_meanwhile(desk: Desk) -> None:
    unit, clicks = desk.unit("conv3", "slow", orders=4), []
    digest = desk.inputs.sample("coffee").digest
    for known in desk.ask(unit):
        if isinstance(known.get(unit), Pruned) and len(clicks) < 3:
            began, slot = time.monotonic(), f"click {len(clicks)}"
            desk.engine.submit(slot, [Unit(Side("slow", digest), PredictionOf(str(len(clicks))))], desk.inputs.pixels)
            cursor, kinds = 0, list[str]()
            while "end" not in kinds:
                events, cursor = desk.engine.events(slot, cursor, 5.0)
                kinds += [event.kind for event in events]
            assert "done" in kinds
            clicks.append(time.monotonic() - began)
    assert len(clicks) == 3 and max(clicks) < limit(1.0), clicks
    assert known[unit].curve.pictures == WANTED


def test_what_does_not_fit_is_read_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: dict[int, int] = {}
    read = desk.store.read

    def counted_read(version: str, number: int) -> bytes:
        if desk.pictures.members[number].name != "broken.png":
            counted[number] = counted.get(number, 0) + 1
        return read(version, number)

    monkeypatch.setattr(desk.store, "read", counted_read)
    (held,) = desk.answer(desk.unit("conv1", pictures=12))
    assert len(counted) == 12 and set(counted.values()) == {1}
    monkeypatch.setattr(first_pictures, "HELD_BYTES", 5 * 4 * 3 * 16 * 16)
    counted.clear()
    (read_again,) = desk.answer(desk.unit("conv1", pictures=11, orders=1))
    assert sorted(counted.values())[:5] == [1] * 5 and min(sorted(counted.values())[5:]) >= 2
    assert read_again.curve.pictures == 11 and held.curve.pictures == 12


def test_a_sweep_of_the_same_set_is_not_disturbed(desk: Desk) -> None:
    desk.sweeps.start(desk.pictures, "slow")
    (found,) = desk.answer(desk.unit("conv2", "planted", by="gate", pictures=20))
    assert found.curve.pictures == 20
    until(lambda: desk.sweeps.progress(desk.pictures, "slow").phase == "done", limit(60.0))
    swept = desk.sweeps.found(desk.pictures, "slow")
    assert swept is not None and len(swept.pictures) == COUNT and len(swept.unread) == 1


def test_the_child_that_reads_ends_when_nobody_asks(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "IDLE_SECONDS", 0.3)
    source = next(member.path for member in desk.pictures.members if member.name != "broken.png")
    assert source is not None
    decoder = Decoder(5.0)
    reader = reading.Reader(decoder)
    first = reader.read(source, tmp_path / "small" / "0.jpg")
    assert (tmp_path / "small" / "0.jpg").read_bytes()[:2] == b"\xff\xd8" and len(decoder._running) == 1
    (child,) = decoder._running
    assert reader.read(source, tmp_path / "small" / "0.jpg") == first and decoder._running == {child}
    until(lambda: not decoder._running, limit(5.0))
    assert child.returncode is not None
    assert reader.read(source, tmp_path / "small" / "1.jpg") == first  # by a new one
    (tmp_path / "link.png").symlink_to(source)
    with pytest.raises(InputRefused, match="links are not followed"):
        reader.read(tmp_path / "link.png", tmp_path / "small" / "2.jpg")
    reader.close()
    assert not decoder._running
    with pytest.raises(InputRefused, match="The server is stopping"):
        reader.read(source, tmp_path / "small" / "0.jpg")


def test_two_curves_added_are_that_of_all_pictures(net: nn.Module) -> None:
    pictures, classes = (each[:12] for each in digits())
    order = np.arange(16)
    whole, one, other = (
        hs.prune_curve(net, [(pictures[part], classes[part])], "conv2", order, random_orders=2)
        for part in (slice(12), slice(5), slice(5, 12))
    )
    both = one + other
    assert (both.pictures, both.labelled) == (12, 12)
    np.testing.assert_array_equal(both.agreed, whole.agreed)
    np.testing.assert_array_equal(both.right, whole.right)
    np.testing.assert_allclose(both.divergences, whole.divergences, rtol=1e-9, atol=1e-12)
    reverse = hs.prune_curve(net, [(pictures, classes)], "conv2", order[::-1].copy(), random_orders=2)
    for another in (reverse, hs.prune_curve(net, [pictures], "conv3", order, random_orders=2)):
        with pytest.raises(HooksError, match="muted in the same orders, so they cannot be added"):
            one + another


def test_the_curve_comes_picture_by_picture_and_the_model_is_handed_back(net: nn.Module) -> None:
    pictures = digits()[0][:4]
    told: list[tuple[int, int]] = []
    with looking(progress=lambda done, total: told.append((done, total))):
        found = []
        for curve in curve_as_measured(net, [pictures], "conv1", np.arange(8), random_orders=2):
            assert not live_hooks()
            found.append(curve)
    assert [each.pictures for each in found] == [1, 2, 3, 4] and told[-1] == (4, 4)
    whole = hs.prune_curve(net, [pictures], "conv1", np.arange(8), random_orders=2)
    np.testing.assert_array_equal(found[-1].agreed, whole.agreed)
    two = hs.prune_curve(net, [pictures[:2]], "conv1", np.arange(8), random_orders=2)
    np.testing.assert_array_equal(found[1].agreed, two.agreed)


# --- what stands on the page


def part_of(desk: Desk, **chosen: Any) -> tuple[Part, Part]:
    """The chosen layer's part, and the table's, of a view."""
    view = View(model="planted", set_a=key_of("digits"), tab="pictures").but(set_page="could-go", **chosen)
    info = desk.engine.info("planted")
    assert info is not None
    scene = Scene.build(view, {"planted": info}, desk.service, Gallery("/picture/"), Readings(), 800)
    looked = look_at(scene)
    assert isinstance(looked, Looked)
    one, every = could_go.PAGE.parts(looked)
    return one, every


def words(tree: Any) -> str:
    """What can be read of elements."""
    if isinstance(tree, str):
        return tree
    return "".join(each if isinstance(each, str) else words(each[2]) for each in tree or [])


def shown(desk: Desk, part: Part) -> dict[str, str]:
    """The texts of a part's regions once its questions are answered."""
    found: dict[str, str] = {}
    desk.number += 1
    name = desk.service.ask("drawn", [part], {}, desk.number)
    for update in desk.service.updates(name, lambda: False):
        if isinstance(update, tuple):
            found = {str(region): words(values.get("tree")) for region, values in update[1]}
    return found


def test_a_layer_is_measured_when_somebody_says_so_and_then_shown_to_everybody(desk: Desk) -> None:
    one, _ = part_of(desk, layers=["conv1"], prune_by="gate")
    text = shown(desk, one)["set-going"]
    assert f"Measure conv1 over {COUNT + 1} pictures" in text
    assert "8 channels; with each would go 172 parameters" in text
    one, _ = part_of(desk, layers=["conv1"], prune_by="gate", prune=True)
    text = shown(desk, one)["set-going"]
    assert "At ≤ 1 % disagreement: conv1" in text and f"Over {COUNT} of {COUNT + 1} pictures; 1 cannot be read." in text
    assert "indices for Torch-Pruning" in text and "In random orders" not in text
    again, _ = part_of(desk, layers=["conv1"], prune_by="gate", prune_at="5")  # without a click
    regions = shown(desk, again)
    assert "At ≤ 5 % disagreement: conv1" in regions["set-going"]
    assert "That is 3 of 60 pictures." in regions["set-going"]
    assert "gradient)², of each picture's own first class, taken behind relu1." in regions["set-going-channels"]


def test_what_is_no_removal_or_refused_says_so_in_its_place(desk: Desk) -> None:
    text = shown(desk, part_of(desk, layers=["relu2"], prune=True)[0])["set-going"]
    assert "can be muted, and not removed. None of its parameters are filters" in text and "indices for" not in text
    regions = shown(desk, part_of(desk, layers=["fc"], prune=True)[0])
    assert "gives the answer itself" in regions["set-going"] and not regions["set-going-channels"]
    assert "Try again" not in regions["set-going"]


def test_what_was_stopped_is_not_begun_by_another_choice(desk: Desk) -> None:
    _, first = part_of(desk, prune_every=True, layers=["conv1"])
    shown(desk, first)  # the layers are known by now
    _, table = part_of(desk, prune_every=True, layers=["conv1"])
    assert len(table.units) == 4
    for other in ({"layers": ["conv3"]}, {"crops": "median"}, {"prune": True, "from_ranked": 12}):
        assert part_of(desk, **{"prune_every": True, "layers": ["conv1"], **other})[1].signature() == table.signature()
    for other in ({"prune_at": "5"}, {"prune_by": "gate"}, {"prune_every": False}):
        assert part_of(desk, **{"prune_every": True, "layers": ["conv1"], **other})[1].signature() != table.signature()
    one = part_of(desk, layers=["conv2"], prune=True)[0]
    assert part_of(desk, layers=["conv2"], prune=True, prune_every=True)[0].signature() == one.signature()
    assert not part_of(desk, layers=["conv2"], prune_every=True, prune_over="256", prune_by="gate")[0].units[1:]


def test_the_figure_holds_the_curve(desk: Desk, net: nn.Module) -> None:
    (found,) = desk.answer(desk.unit("conv2", orders=2))
    curve = found.curve
    figure = pruning_figure(curve, 0.01)
    lower, upper, accuracy, own = figure.data
    np.testing.assert_allclose(own.y, 100 * (1 - curve.agreed[0] / WANTED))
    np.testing.assert_allclose(upper.y, 100 * (1 - curve.agreed[1:].min(0) / WANTED))
    np.testing.assert_allclose(lower.y, 100 * (1 - curve.agreed[1:].max(0) / WANTED))
    np.testing.assert_allclose(accuracy.y, 100 * curve.right[0] / WANTED)
    np.testing.assert_allclose(own.x, 100 * curve.counts / 16)
    across, upright = figure.layout.shapes
    assert across.y0 == 1 and upright.x0 == 100 * curve.removable(0.01).count / 16
    assert f"<b>{curve.counts[-1]} of 16 channels</b>" in own.text[-1]
    rows = curve_csv(curve).decode().splitlines()
    assert len(rows) == 1 + len(curve.counts) and rows[1].split(",")[:3] == ["0", "0.0", "0.0"]
    plain = hs.prune_curve(net, [digits()[0][:3]], "conv2", random_orders=0)
    assert (
        len(pruning_figure(plain, 0).data) == 1 and curve_csv(plain).decode().splitlines()[1] == "0,0.0,0.0,,0.0,,,,3"
    )
