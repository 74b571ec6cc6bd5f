"""The benchmarks' arithmetic and tables; that they run at all is seen with `python -m bench --quick`."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import __main__ as command
from bench import article, attention, click, conditions, feed, hooks_cost, memory, peers, report, walls, watchers
from bench.browser import Drawn
from bench.options import QUICK, Options
from bench.report import Table
from bench.visitor import FLOOR, UNCACHED
from hookscope.hooks.bench.cost import BARE
from hookscope.hooks.bench.timing import Times
from hookscope.hooks.results.looks import Call, LayerInfo

README = "# Title\n\n<!-- bench:click -->\nold\n<!-- /bench -->\n\ntext\n\n<!-- bench:start --><!-- /bench -->\nend\n"


def table(name: str) -> Table:
    return Table(name, ["", "a"], [["first", "1"], ["second", r"\2"]], ["A note.", "Another."])


def test_a_table_is_markdown_with_its_notes_below() -> None:
    expected = "|  | a |\n| --- | ---: |\n| first | 1 |\n| second | \\2 |\n\nA note. Another."
    assert table("click").markdown() == expected


def test_tables_go_between_their_markers_and_nowhere_else() -> None:
    once = report.with_tables(README, [table("start"), table("click")])
    assert "old" not in once and once.startswith("# Title\n\n<!-- bench:click -->") and once.endswith("-->\nend\n")
    assert once.count("| second | \\2 |") == 2 and "\n\ntext\n\n" in once
    assert report.with_tables(once, [table("start"), table("click")]) == once  # writing again changes nothing


def test_a_marker_without_its_end_is_missing() -> None:
    assert report.missing_markers(README, ["click", "start", "hooks"]) == ["hooks"]
    assert report.missing_markers("<!-- bench:click --> <!-- bench:start --> <!-- /bench -->", ["click"]) == ["click"]


def test_write_without_markers_is_one_sentence_and_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n")
    monkeypatch.setattr(command, "MEASUREMENTS", readme)
    assert command.main(["start", "--write"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "<!-- bench:start -->" in said
    assert command.main(["start", "--write", "--quick"]) == 2


def test_one_topic_that_fails_does_not_lose_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: Options) -> Table:
        raise RuntimeError("There is no Chromium.")

    readme = tmp_path / "README.md"
    readme.write_text(README)
    monkeypatch.setattr(command, "MEASUREMENTS", readme)
    monkeypatch.setattr("bench.click.run", fail)
    monkeypatch.setattr("bench.start.run", lambda options: table("start"))
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    assert command.main(["click", "start", "--write"]) == 1
    said = capsys.readouterr()
    assert "There is no Chromium." in said.err and "### start" in said.out
    assert "old" in readme.read_text() and "A note." in readme.read_text()


def test_an_unknown_topic_is_refused() -> None:
    with pytest.raises(SystemExit):
        command.main(["clock"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (report.seconds(0.8), "0.80 s"),
        (report.kilobytes(3_400), "3.4 KB"),
        (report.kilobytes(1_204_000), "1,204 KB"),
        (report.megabytes(412e6), "412 MB"),
    ],
)
def test_numbers_are_written_for_a_reader(text: str, expected: str) -> None:
    assert text == expected


def test_the_slope_is_that_of_the_line_through_the_values() -> None:
    assert report.slope([5.0, 7.0, 9.0, 11.0]) == pytest.approx(2)
    assert report.slope([5.0, 5.0, 5.0]) == 0
    assert math.isnan(report.slope([5.0]))


def test_conditions_name_cores_and_versions() -> None:
    said = conditions.sentence(["torch"], "Chromium 140")
    assert f"{conditions.cores()} cores" in said and f"torch {torch.__version__.split('+')[0]}" in said
    assert said.endswith("Chromium 140.") and "/" not in said


def test_what_the_page_logs_is_read() -> None:
    times = '"milliseconds": 90.5, "shown": 60, "loaded": 70, "asked": 10, "told": 40'
    drawn = Drawn.read(f'{{{times}, "answerBytes": 1200, "pictureBytes": 300}}')
    assert (drawn.milliseconds, drawn.shown, drawn.told) == (90.5, 60, 40)
    assert (drawn.answer_bytes, drawn.picture_bytes) == (1200, 300)


def test_the_click_table_has_a_dash_where_nothing_was_measured() -> None:
    found = click.Findings(chromium="Chromium 140", gave_up={"layer2.0.bn3": 90.0})
    found.bare["layer1.0.bn1"] += [10.0, 12.0, 11.0]
    found.drawn[UNCACHED, "layer1.0.bn1"] += [Drawn(111.0, 80.0, 90.0, 10.0, 40.0, 20_000, picture_bytes=100_000)]
    found.drawn[FLOOR, "layer1.0.bn1"] += [Drawn(46.0, 46.0, 30.0)]
    rows = {row[0]: row[1:] for row in reversed(click.table(found, Options()).rows)}
    assert rows["the bare forward pass to that layer"] == ["11 ms", "–", "–"]
    assert rows["… beyond the bare forward pass, in floors"] == ["1.50×", "–", "–"]  # (80 - 11) / 46
    assert rows["… usable"] == ["111 ms", "–", "–"]
    assert rows[click.HEATMAPS] == ["–", "gave up after 90 s", "not tried"]
    assert rows["on the wire: Hookscope, the whole card and its picture"] == ["120 KB", "–", "–"]


def test_the_bare_forward_pass_runs_what_the_layer_needs() -> None:
    """The modules in a row give what a hook sees, on every wall."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    model = resnet50().eval()
    picture = torch.randn(1, 3, 64, 64)
    for wall in walls.WALLS:
        expected = torch.from_numpy(article.activation(model, wall.layer, picture))
        values = picture
        with torch.no_grad():
            for module in walls.modules_to(model, wall):
                values = module(values)
        # an in-place ReLU may follow the layer; the hook copied before that
        assert values.shape[1] == wall.channels
        assert torch.equal(values[0], expected)


def test_every_photograph_is_another_picture() -> None:
    sizes = {Image.open(io.BytesIO(walls.photograph(number))).size for number in range(4)}
    assert len(sizes) == 4


def test_the_articles_figures_carry_lists_of_the_same_values() -> None:
    maps = np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2)
    grid = article.heatmaps(maps).to_plotly_json()["data"]
    assert [np.array(trace["z"]).tolist() for trace in grid] == maps.tolist()
    text = article.montage(maps).to_json()
    assert "bdata" not in text and "[[0.0,1.0,4.0,5.0],[2.0,3.0,6.0,7.0],[8.0,9.0,0.0,0.0]" in text.replace(" ", "")


def test_the_hooks_cost_is_told_for_all_threads_and_for_one() -> None:
    def times(bare: float, capture: float) -> Times:
        taken = {BARE: [bare] * 3, "capture": [capture] * 3}
        return Times(taken, taken)

    rows = hooks_cost.table({"Net": (times(20, 30), times(40, 50))}, {"Net": 5}, Options()).rows
    assert rows == [[BARE, "20 ms", "1", "1"], ["capture", "30 ms", "1.50× (1.50×)", "1.25× (1.25×)"]]


def test_memory_clicks_the_largest_maps() -> None:
    def layer(name: str, side: int, calls: int = 1, leaf: bool = True) -> LayerInfo:
        call = Call((1, 8, side, side), ("image", "channel", "height", "width"), 0)
        return LayerInfo(name, "Conv2d", 0, None, (call,) * calls, leaf=leaf)

    layers = [layer("small", 2), layer("large", 9), layer("block", 9, leaf=False), layer("twice", 9, calls=2)]
    assert memory.largest(layers, 40) == ["large", "small"]


def test_memory_tells_the_slope_of_the_last_clicks() -> None:
    server = [memory.Sample(100_000_000 + min(number, 30) * 1_000_000, 60, 13) for number in range(91)]
    worker = [memory.Sample(900_000_000 + number * 10_000, 5, 4) for number in range(91)]
    rows = memory.table(server, worker, 0).rows
    assert rows[0] == ["0 clicks", "100 MB", "60, 13", "900 MB", "5, 4"]
    assert rows[-1] == ["slope per 100 clicks, over the last 27", "+0.0 MB", "", "+1.0 MB", ""]


def test_quick_is_less_than_the_default() -> None:
    assert QUICK.repeats < Options().repeats and QUICK.clicks < Options().clicks and QUICK.starts < Options().starts


def test_a_map_of_another_library_is_told_apart_in_units_of_the_true_one() -> None:
    true = np.array([[-2.0, 4.0]])
    assert peers._apart(true, true) == "0"
    assert peers._apart(true, np.array([[-2.0, 3.0]])) == "**0.25**"
    assert peers._apart(true, np.array([[-2.0, 4.00004]])) == "1e-05"
    assert peers._apart(true, np.array([[0.0, 4.0]])) == "0"  # a positive part is compared with the positive part


def test_the_table_of_peers_names_where_they_are_wrong() -> None:
    text = (command.ROOT / "docs" / "truth.md").read_text(encoding="utf-8")
    names = tuple(f"| {name}, " for name in peers.NAMES.values())
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith(names)}
    assert len(rows) == len(peers.NAMES) * len(peers.PLACES)
    for method, name in peers.NAMES.items():
        for place in peers.PLACES:
            line = rows[f"{name}, {place.model} {place.layer}" + (f" ({place.remark})" if place.remark else "")]
            cells = [cell.strip() for cell in line.split("|")[2:-1]]
            assert "**" not in cells[0] and (cells[1] == "–") == (method != "gradcam")  # ours, and captum's
            if method != "layercam":  # which is right before a ReLU whichever value was kept: the gradient is 0 there
                assert ("**" in line) == bool(place.remark or method == "gradcam++")


def test_maps_are_scaled_after_relu() -> None:
    assert peers.scaled(np.array([[-3.0, 1.0], [2.0, 5.0]])).tolist() == [[0, 0.2], [0.4, 1]]
    assert peers.scaled(np.array([[-3.0, -1.0]])).tolist() == [[0, 0]]
    assert peers._column("layercam", np.array([[-1.0, 4.0]]), np.array([[0.0, 0.5]])) == "0"
    assert peers._column("gradcam", np.array([[-1.0, 4.0]]), None) == "–"


def test_the_table_of_attention_says_what_is_found_and_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("xcit_nano_12_p16_224", "mobilevitv2_050", "convit_tiny")
    monkeypatch.setattr(attention, "FAMILIES", tuple(attention.Family(name) for name in names))
    assert [list(row) for row in attention.run(QUICK).rows] == [
        ["xcit_nano_12_p16_224", "2 ClassAttn", "12 XCA", "–", "yes"],
        ["mobilevitv2_050", "–", "–", "9 LinearSelfAttention", "–"],
        ["convit_tiny", "2 MHSA", "–", "10 GPSA", "yes"],
    ]


def test_watchers_are_told_apart_by_the_histograms_of_convolutions_before_an_in_place_relu(tmp_path: Path) -> None:
    """What is written in the hook is the convolution's; what is kept there and written later is the ReLU's."""
    found = [feed._shown(kind, tmp_path) for kind in (watchers.Follow, watchers.TensorBoard, watchers.TensorBoardLater)]
    assert found == ["yes (26 of 26)"] * 2 + ["**no**: values after the ReLU (26 of 26)"]


def test_a_histogram_is_compared_with_the_values_themselves_and_with_what_a_relu_makes_of_them() -> None:
    values = np.array([[-3.0, -1.0, 1.0, 3.0]])
    edges = np.array([-np.inf, -2.0, 0.0, 2.0, np.inf])
    own, after = (np.array([1, 1, 1, 1]), edges), (np.array([0, 0, 3, 1]), edges)
    assert feed.apart(own, values) == 0 and feed.apart(after, values) == 0.5
    assert feed.apart(after, np.maximum(values, 0)) == 0
    assert feed.apart((np.array([0, 0, 0, 0]), edges), values) == 0.5  # values that are not counted are missing
    true = {"a": values, "b": values}
    assert feed.verdict({"a": own, "b": own}, true) == "yes (2 of 2)"
    assert feed.verdict({"a": after, "b": after}, true) == "**no**: values after the ReLU (2 of 2)"
    assert feed.verdict({"a": own, "b": after}, true) == "of 1 of 2; of 1 the values after the ReLU"
    assert feed.verdict({"a": None, "b": None}, true) == "nothing of outputs"
