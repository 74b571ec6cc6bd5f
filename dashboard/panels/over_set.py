"""A number of every layer over the chosen set, as bars in the tree; what is missing, where there is none."""

from __future__ import annotations

from dataclasses import replace

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.components.layer_tree import tree_nodes
from hookscope.dashboard.drawing.metrics import bars, say, scale_text, texts, worst_first
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.pictures.against_stored import stored_outliers
from hookscope.dashboard.panels.pictures.beside import Missing, again, beside, count_of, looked_through, open_tab
from hookscope.dashboard.panels.pictures.looked import Looked, look_at
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.sets.layer_numbers import BEYOND, MANY, SET_METRICS, duplicates_in, spreads_in, survey_over
from hookscope.dashboard.sets.outlying import Outlying, shares_beyond
from hookscope.dashboard.sets.stored import STORED
from hookscope.hooks.methods import Metric
from hookscope.hooks.results.summaries import Survey

NO_BARS: Update = (
    ids.TREE,
    {"metric": None, "metric_texts": None, "worst": None, "alarms": None, "alarm_text": None},
)
LEAST_SCALE = 0.1  # of a scale that ends at the largest value: one channel of a thousand is no long bar
DRAWN = ("set-spread", "set-alike")  # told from the means that are kept of some pictures
Told = tuple[Survey, int] | Missing  # the numbers, and over how many pictures


def part(scene: Scene, name: str, chosen: str) -> Part:
    """The part that draws one of `SET_METRICS`; `name` is the part's own."""
    metric = SET_METRICS[chosen]
    looked = look_at(scene) if scene.view.set_a else ""
    told = _told(scene, looked, metric)
    if isinstance(told, Missing) or isinstance(looked, str):
        assert isinstance(told, Missing)
        return Part.still(name, [NO_BARS, show_text(ids.METRIC_TEXT, told.line)])
    return Part.still(name, _drawn(looked, metric, *told))


def _told(scene: Scene, looked: Looked | str, metric: Metric) -> Told:
    """A number of every layer; the counts of what fires are those of all that was seen, not of what is saved alone."""
    if isinstance(looked, str):
        missing = beside(scene)
        assert isinstance(missing, Missing)
        return missing
    now = looked.progress.now
    if metric.name in ("set-dead", "set-seldom") and now is not None and now.firing:
        seen = now.seen - len(now.unread)
        if metric.name == "set-seldom" and seen <= MANY:
            text = f"{count_of(seen)}: for one to be under 1 % of them it takes more than {MANY}."
            return Missing([text], again=_runs(looked))
        return survey_over(metric, looked.found, now.firing), seen
    there = looked_through(looked)
    return there if isinstance(there, Missing) else _beside(looked, metric)


def _beside(looked: Looked, metric: Metric) -> Told:
    """What is computed of what is written down."""
    sweeps, found = looked.scene.service.sweeps, looked.found
    assert sweeps is not None and found is not None
    if metric.name == "set-gap":
        return _gaps(looked, metric)
    if metric.name == BEYOND:
        far = stored_outliers(looked)
        if isinstance(far, Outlying):
            return survey_over(metric, found, beyond=shares_beyond(far.scores)), len(far.scores.pictures)
        return _waits(looked, metric, far)
    if metric.name == "set-spread":
        spread = spreads_in(sweeps, looked.pictures, looked.model)
        if isinstance(spread, dict):
            return survey_over(metric, found, spread=spread), _drawn_of(looked)
        return _waits(looked, metric, spread)
    alike = duplicates_in(sweeps, looked.pictures, looked.model)
    if isinstance(alike, tuple):
        return survey_over(metric, found, duplicates=alike), _drawn_of(looked)
    return _waits(looked, metric, alike)


def _gaps(looked: Looked, metric: Metric) -> Told:
    scene, sweeps = looked.scene, looked.scene.service.sweeps
    assert sweeps is not None
    if not scene.view.set_b or scene.view.set_b in (scene.view.set_a, STORED):
        return Missing(["Choose a second set, which this one is held against: ", open_tab("in Pictures")])
    other = looked_through(look_at(scene, scene.view.set_b))
    if isinstance(other, Missing):
        return other
    gaps = sweeps.gaps(looked.pictures, other.looked.pictures, looked.model)
    if isinstance(gaps, tuple):
        return survey_over(metric, looked.found, gaps=gaps), max((sum(gap.pictures) for gap in gaps), default=0)
    return _waits(looked, metric, gaps)


def _waits(looked: Looked, metric: Metric, why: str | None) -> Missing:
    return Missing([why or f"{metric.title}: computing …"], again=why is None or _runs(looked))


def _runs(looked: Looked) -> bool:
    return looked.progress.phase == "running"


def _drawn_of(looked: Looked) -> int:
    """Of how many pictures each channel's mean is kept."""
    return max((len(part.pictures) for part in looked.found.sample), default=0) if looked.found else 0


def _drawn(looked: Looked, metric: Metric, survey: Survey, seen: int) -> list[Update]:
    compares = metric.name == "set-gap"
    if metric.highest is not None or compares:  # a share is small in most layers, and a gap has no largest value
        most = max((call[metric.name] for call in survey.calls if call[metric.name] > 0), default=0.0)
        metric = replace(metric, highest=max(most, LEAST_SCALE), worst=most if compares else metric.worst)
    nodes = tree_nodes(looked.info.layers)
    names = [node["name"] for node in nodes]
    of, said = f"{metric.title} of {looked.pictures.name}", metric.title
    said = said if compares else f"{said} {looked.pictures.name}"
    worst, alarms = worst_first(survey, metric, nodes)
    tree = {
        "metric": bars(survey, metric, names),
        "metric_texts": [text.replace(of, said, 1) for text in texts(survey, metric, names, looked.pictures.name)],
        "worst": worst,
        "alarms": 0 if compares else alarms,
        "alarm_text": "" if compares else f"{metric.title} {say(metric, metric.worst)}".replace(".0 %", " %"),
    }
    whose = "between the two sets" if compares else f"over {looked.pictures.name}"
    whose += ", against the stored baseline" if metric.name == BEYOND else ""
    so_far = "" if looked.progress.phase == "done" else " so far"
    drawn = " drawn at random" if metric.name in DRAWN and seen < looked.progress.saved else ""
    text = f"{whose}: {scale_text(survey, metric)}; {count_of(seen)}{drawn}{so_far}"
    line = html.Span(text, title=metric.help, **again(_runs(looked)))
    return [(ids.TREE, tree), show_text(ids.METRIC_TEXT, line)]
