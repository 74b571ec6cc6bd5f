"""The view: what a URL, a share link or a hostile browser can put into it, and that nothing chosen is lost."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args, get_type_hints
from urllib.parse import parse_qs, quote

import pytest

from hookscope.dashboard.asking.layer_keys import MAX_KEY_LENGTH, MAX_NAME_LENGTH
from hookscope.dashboard.page import view as view_module
from hookscope.dashboard.page.reading import Walls
from hookscope.dashboard.page.view import MAX_LAYERS, MEAN, STATES, View, state
from hookscope.dashboard.panels.order import PANELS
from hookscope.hooks.results.targets import OWN, Class

CHOSEN = View().but(
    model="torchvision:resnet50@IMAGENET1K_V2",
    a="sample-coffee",
    b="Ab_-" * 5,
    second_a="sample-chelsea",
    second_b="sample-coffee",
    model_b="old",
    prepare_a="bgr",
    prepare_b="bytes,grey,squeezed,nearest",
    shown_a="4.1.0",
    shown_b="0.0.12",
    edits_a="blocks.4.0~5~0",
    edits_b="layer1.0.relu:1~~mean~(model)~0~1.5",
    side="b",
    target_b="box:3",
    against="next",
    against_b="285",
    apart=True,
    reading="sigmoid:heads/age",
    reading_b=":1",
    captions="a photo of a cat\n<b>50 %</b> & more",
    captions_b="日本",
    layers=("layer1.0.relu:1", "(model)", "blocks.4.2.bn2"),
    matched="layer1.0.relu:1=features.3",
    target=0,
    rank="difference",
    scale="channel",
    colours="grey",
    count="256",
    overlay=True,
    moment=500,
    seen=True,
    readings=True,
    table=True,
    restored=True,
    sort="A_mean.desc",
    weights=True,
    patch=0,
    metric="zeros",
    detail="layer1.0.relu:1",
    channel=0,
    maps="scorecam",
    attributions=True,
    models=True,
    likeness=True,
    ladder=True,
    painting=True,
    set_a="set-reference",
    set_b="set-0123",
    set_page="outliers",
    shown="all",
    of_class=0,
    from_picture=24,
    named="IMG_*",
    of_label=3,
    of_answer=5,
    agreement="wrong",
    alike=7,
    classes_by="accuracy",
    all_classes=True,
    channels="seldom",
    from_channel=12,
    crops="median",
    looks_for=True,
    from_cell=36,
    map_by="tsne",
    outliers_by="energy",
    from_outlier=20,
    prune=True,
    prune_every=True,
    prune_by="gate",
    prune_at="5",
    run="monday",
    run_b="tuesday",
    run_step="1200",
    run_column="a.rms",
    run_layer="layer1.0",
    run_kind="w",
    run_scale="linear",
    run_curve="s.accuracy",
    run_loss="log",
    run_moves="b",
    prune_over="256",
    from_ranked=12,
    depth="back",
    back_into="a",
    back_by="channels",
    tab="depth",
)
ODD_KEYS = (
    "a b",
    "a+b",
    "a&layer=c",
    "a=b",
    "50%",
    "a#b",
    "ünï.çödé",
    "日本.語",
    "a/b?c",
    '<script>"x"</script>',
    "a\nb",
)


def through_the_url(view: View) -> View:
    return View.from_query("?" + view.to_query())


FIELDS = tuple(View().to_dict())


def test_every_field_differs_from_its_default_in_the_example() -> None:
    default, chosen = View().to_dict(), CHOSEN.to_dict()
    assert [name for name in FIELDS if chosen[name] == default[name]] == []
    assert len(FIELDS) == 87 and len(CHOSEN.states) == len(STATES)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_survives_the_url(name: str) -> None:
    view = View(detail="conv").but(**{name: CHOSEN.to_dict()[name]})
    assert through_the_url(view) == view
    assert View.from_query(view.to_query()) == view  # with or without the question mark


def test_the_whole_view_survives_the_url_and_the_store() -> None:
    assert through_the_url(CHOSEN) == CHOSEN
    assert View.from_dict(json.loads(json.dumps(CHOSEN.to_dict()))) == CHOSEN


@pytest.mark.parametrize(
    ("name", "choice"),
    [(name, choice) for name, kind in get_type_hints(Walls).items() for choice in get_args(kind)],
)
def test_every_choice_survives_the_url(name: str, choice: str) -> None:
    assert through_the_url(View().but(**{name: choice})).to_dict()[name] == choice


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_layer_names_survive_the_url(key: str) -> None:
    view = View(layers=(key, "conv"), detail=key, channel=7)
    assert through_the_url(view) == view


def test_the_url_holds_only_what_differs_and_reads_well() -> None:
    assert View().to_query() == ""
    assert View(channel=5).to_query() == ""  # without an enlarged layer there is no enlarged channel
    assert View(layers=("layer1.0", "(model)", "relu:1")).to_query() == "layer=layer1.0&layer=(model)&layer=relu:1"
    assert View().but(overlay=True, target=0).to_query() == "target=0&overlay=1"


def test_a_closed_card_leaves_a_gap_that_the_url_forgets() -> None:
    view = View.from_dict({"layers": ["conv", "", "fc", ""]})
    assert view.layers == ("conv", "", "fc", "")
    assert through_the_url(view).layers == ("conv", "fc")
    assert View.from_query("layer=&layer=conv&layer=").layers == ("conv",)


def test_a_layer_twice_is_one_card() -> None:
    assert View.from_dict({"layers": ["conv", "fc", "conv", "", "fc"]}).layers == ("conv", "fc", "", "", "")


def test_there_are_no_more_cards_than_fit() -> None:
    assert len(View.from_dict({"layers": [f"layer{n}" for n in range(100_000)]}).layers) == MAX_LAYERS
    assert len(View.from_query("&".join(f"layer=l{n}" for n in range(150))).layers) == MAX_LAYERS


@pytest.mark.parametrize("name", ["rank", "scale", "colours", "count"])
@pytest.mark.parametrize("value", ["", "nonsense", "INDEX", None, 7, ["index"], {"index": 1}, float("nan"), True])
def test_an_unknown_choice_falls_back(name: str, value: Any) -> None:
    assert View.from_dict({name: value}) == View()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (3, 3),
        ("3", 3),
        (0, 0),
        (999_999, 999_999),
        (10**6, None),
        (-1, None),
        ("-2", None),
        ("", None),
        ("three", None),
        (None, None),
        (float("nan"), None),
        (float("inf"), None),
        (float("-inf"), None),
        ("9" * 5000, None),
        ([3], None),
        ({}, None),
        ("0x10", None),
        ("1e3", None),
    ],
)
def test_a_class_is_a_number_or_nothing(value: Any, wanted: int | None) -> None:
    assert View.from_dict({"target": value}).target == (OWN if wanted is None else Class(wanted))
    assert View.from_dict({"channel": value}).channel == (MEAN if wanted is None else wanted)


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "a/b", "a b", "x" * 65, "", None, 5, ["k"], "<img>", "a.b", "ключ", "a\n", "a\x00"]
)
def test_an_input_key_that_no_store_gives_out_is_none(key: Any) -> None:
    view = View.from_dict({"a": key, "b": key})
    assert view.a == view.b == ""


def test_text_is_cut_where_no_layer_name_reaches() -> None:
    view = View.from_dict({"model": "m" * 10**6, "detail": "d" * 10**6, "layers": ["l" * 10**6]})
    assert len(view.model) == 400
    assert len(view.detail) == len(view.layers[0]) == MAX_KEY_LENGTH
    deepest = "l" * MAX_NAME_LENGTH + ":999999999"
    assert View.from_dict({"layers": [deepest]}).layers == (deepest,)


def test_two_ways_to_write_a_call_are_one_card() -> None:
    view = View.from_query("layer=conv:0&layer=conv&layer=conv:1&layer=conv:01&detail=conv:0")
    assert view.layers == ("conv", "", "conv:1", "conv:01") and view.detail == "conv"


@pytest.mark.parametrize("name", ["overlay", "seen", "table", "attributions", "ladder", "painting"])
def test_a_switch_in_the_url_is_on_only_as_we_write_it(name: str) -> None:
    assert View.from_query(f"{name}=1").to_dict()[name] is True
    assert not any(View.from_query(f"{name}={text}").to_dict()[name] for text in ("0", "", "false", "yes", "2"))
    assert View.from_query(f"{name}=0&{name}=1").to_dict()[name] is True  # the last one counts, as for every field


@pytest.mark.parametrize("values", [None, [], "view", 5, float("nan"), b"view", {"layers": "conv"}, {"layers": 7}, {}])
def test_what_is_no_view_is_an_empty_one(values: Any) -> None:
    assert View.from_dict(values) == View()


@pytest.mark.parametrize("text", ["a\ud800", "conv\udfff", "\x00", "\u202egnp", "a" * 399 + "😀😀", "é" * 400])
def test_odd_unicode_never_breaks_the_url_the_store_or_a_signature(text: str) -> None:
    view = View.from_dict(json.loads(json.dumps({"layers": [text], "detail": text, "model": text, "channel": 1})))
    assert through_the_url(view) == view
    assert View.from_dict(json.loads(json.dumps(view.to_dict()))) == view
    assert view.to_query().encode() and repr(view).encode()
    assert text.startswith(view.detail) and len(view.detail) >= min(len(text) - 1, 400)


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"x{n}=1" for n in range(5000)),  # more fields than parse_qs takes
        "?" * 1000,
        "layer=" + "%ff" * 1000,
        "layer=%00&detail=%ed%a0%80",
        "&" * 10_000,
        "=" * 10_000,
        "layer[]=conv&layer=%5B%5D",
        "layers=conv&a=..%2F..%2F&target=NaN",
        "a=sample-coffee;b=sample-chelsea",
        "model=" + quote("<script>alert(1)</script>"),
    ],
)
def test_a_hostile_address_is_a_view_that_can_be_written_again(query: str) -> None:
    view = View.from_query(query)
    assert through_the_url(view) == view


def test_markup_stays_text() -> None:
    markup = "<img src=x onerror=alert(1)>"
    query = View(detail=markup).to_query()
    assert "<" not in query and parse_qs(query)["detail"] == [markup]


def test_a_thousand_random_views_are_read_without_an_error_and_are_stable() -> None:
    rng = random.Random(7)

    def value(depth: int = 0) -> Any:
        kind = rng.random()
        if depth < 3 and kind < 0.2:
            return [value(depth + 1) for _ in range(rng.randrange(40))]
        if depth < 3 and kind < 0.3:
            return {"layers": value(depth + 1)}
        return rng.choice([None, True, -1, 10**40, 0.5, math.nan, math.inf, "", "conv", "fc", "é\ud800", "9", "<b>"])

    names = FIELDS
    for _ in range(1000):
        view = View.from_dict({name: value() for name in names if rng.random() < 0.8} | {"more": value()})
        assert View.from_dict(view.to_dict()) == view
        assert View.from_dict(json.loads(json.dumps(view.to_dict()))) == view
        gone = replace(view, layers=tuple(key for key in view.layers if key))
        if not view.detail:
            gone = replace(gone, channel=MEAN)
        assert through_the_url(view) == gone


# --- a panel's own state

MAKERS = {"one"}


def test_a_state_is_read_by_its_fields_types(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(PANELS) > 5  # whose states are there by now
    monkeypatch.setattr(view_module, "STATES", list(STATES))

    @state
    @dataclass(frozen=True)
    class Bulb:
        lit: bool = False
        watts: int = 40
        maker: Annotated[str, MAKERS] = "one"

    view = View.from_query("lit=1&watts=7&maker=two&rank=mean")
    assert view.of(Bulb) == Bulb(True, 7, "one") and view.of(Walls).rank == "mean"
    MAKERS.add("two")  # asked each time
    assert View.from_query("maker=two").of(Bulb).maker == "two"
    assert View().but(watts=9, overlay=True).to_query() == "overlay=1&watts=9"
    assert View.from_query("lit=yes&watts=-3&maker=").of(Bulb) == Bulb() and View().of(Bulb) == Bulb()
    with pytest.raises(ValueError, match="Twice: a view has lit, tab already"):

        @state
        @dataclass(frozen=True)
        class Twice:
            lit: bool = True
            tab: bool = False
