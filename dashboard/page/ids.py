"""Every component id of the page, spelled once; assets/*.js names the few that it needs in the same words."""

from __future__ import annotations

from typing import Any

# what the page is about
LOCATION = "location"
VIEW = "view"  # store: the view that the address named, as View.to_dict; what became of it only page.js knows
MODEL = "model-ready"  # store: {"spec", "fingerprint"} of the model that is ready, set by state.js
MORE_CARDS = "more-cards"  # store: {"first", "last"}: cards that the page lacks

# header
MODEL_SELECT = "model-select"
MODEL_FACTS = "model-facts"
SHARE = "share"
EXPORT_VIEW = "export-view"
SCRIPT = "script"
THEME = "theme"
NOTICE = "notice"  # what an address named and this server does not have
BANNER = "banner"  # one sentence over the page: loading, failed, busy, connection lost

# what was changed
EDITS = "edits"  # the bar that lists it

# tree
TREE = "tree"
METRIC = "metric"  # which number the rows show as a bar
METRIC_TEXT = "metric-text"  # what those bars stand for

# toolbar
RANK = "rank"
SCALE = "scale"
COLOURS = "colours"
COUNT = "count"
OVERLAY = "overlay"
TABLE = "table"
TARGET = "target"
AGAINST = "against"
WHOSE = "whose"  # which side's those are
APART = "apart"  # whether B has a target of its own
MAPS = "maps"
OPACITY = "opacity"
CONTROLS = (RANK, SCALE, COLOURS, COUNT, OVERLAY, TABLE, TARGET, MAPS, AGAINST)

# cards
CARDS = "cards"
GUIDE = "guide"  # what stands where the cards will be, before a layer is chosen

# what is asked of whole inputs
ATTRIBUTIONS = "attributions"  # the maps
PAINTING = "painting"  # the tools for painting on A
PAPER = "paper"  # the picture that is painted on
PAINTED = "painted"  # the list of what is
LADDER = "ladder"  # the levels of a detector's pyramid
MODELS = "models"  # every offered model's answer
MODELS_FOLD = "models-fold"
LIKENESS = "likeness-figure"  # the matrix of two models' layers
LIKENESS_TEXT = "likeness-text"
LIKENESS_LIST = "likeness-list"
LIKENESS_FOLD = "likeness-fold"
ATTRIBUTIONS_FOLD = "attributions-fold"  # the button that opens and closes them
DEPTH_CHARTS = "depth-charts"  # which of them is shown
DEPTH_CHANNELS = "depth-channels"  # of the chosen layer
GRADIENTS = "gradients"  # the graph
GRADIENTS_TEXT = "gradients-text"

# a set of pictures
SET_CHOICE = "set-choice"  # which sets there are
SET_STATE = "set-state"  # how far the model is with the chosen one
SET_DROP = "set-drop"  # where a visitor brings a set
SET_MAKING = "set-making"  # how far it has come
SET_MAKING_NAME = "set-making-name"
SET_MAKING_BAR = "set-making-bar"
SET_MAKING_TEXT = "set-making-text"
SET_REFUSED = "set-refused"  # why it did not
SET_PAGES = "set-pages"  # what can be asked of it
SET_MISTAKES = "set-mistakes"
SET_CLASSES = "set-classes"
SET_CONFUSION = "set-confusion"  # what is taken for what
SET_AGREEMENT = "set-agreement"  # with a second model
SET_LEVELS = "set-levels"  # of a detector's pyramid
SET_CHANNELS = "set-channels"  # what the channels of the chosen layer look for
SET_SILENT = "set-silent"  # which never fire
SET_GAP = "set-gap"  # where two sets part
SET_OUTLIERS = "set-outliers"  # the pictures least like a baseline
SET_OUTLIERS_BEGIN = "set-outliers-begin"  # at which layer that begins
SET_MAP = "set-map"  # what the map is of
SET_PLANE = "set-plane"  # the graph: its pictures as points
SET_MAP_CLASSES = "set-map-classes"  # which colour is which class
SET_INFORMATION = "set-information"  # how much variety each layer lets through
SET_GOING = "set-going"  # how many channels of the chosen layer could go
SET_GOING_CURVE = "set-going-curve"  # the graph
SET_GOING_CHANNELS = "set-going-channels"  # of that layer
SET_GOING_LAYERS = "set-going-layers"  # the same of every layer

# what is wrong
FINDINGS_CHOICE = "findings-choice"  # over which set
FINDINGS_STATE = "findings-state"  # how far the check-up is, and what was checked
FINDINGS = "findings"  # a card each

# a training that is followed
RUN_HEAD = "run-head"  # which, and whether it goes on
RUN_COLUMNS = "run-columns"  # which number the lines are
RUN_LOSS = "run-loss"
RUN_CURVE_AT = "run-curve-at"  # what the curve is at the chosen step
RUN_PINS = "run-pins"  # alarms on the time axis
RUN_LINES = "run-lines"
RUN_MARKER = "run-marker"  # where the chosen step is
RUN_AT = "run-at"  # which that is, for the slider
RUN_WEIGHTS = "run-weights"  # the weights that were saved up to it, as A or as B
RUN_ELSEWHERE = "run-elsewhere"  # behind the other tabs: that what they show is not the chosen step
RUN_DEPTH = "run-depth"  # the column along the depth, at that step
RUN_LAYER = "run-layer"  # the chosen layer's numbers
RUN_RIDGES = "run-ridges"  # its distributions over the steps
RUN_RIDGE_AT = "run-ridge-at"  # at the chosen step
RUN_PINNED = "run-pinned"  # the pinned picture's maps
RUN_ALARMS = "run-alarms"
RUN_CHECKPOINTS = "run-checkpoints"


def set_page(name: str) -> str:
    """What holds one page of what can be asked of a set, e.g. `set_page("map")`."""
    return f"set-page-{name or 'first'}"


# the enlarged channel
DETAIL = "detail"
WALK = "walk"  # store: {"layer", "order", "columns"}: how the arrow keys walk


def slot(position: int) -> str:
    """The place that a card is put into when it is needed, e.g. `slot(0)`."""
    return f"card-slot-{position}"


def card(kind: str, position: int | Any) -> dict[str, Any]:
    """A piece of the card at a position (or of all cards, with `dash.ALL`), e.g. `card("wall", 0)`."""
    return {"type": f"card-{kind}", "card": position}


def side(kind: str, which: str) -> str:
    """A piece of input "a" or "b", e.g. `side("picture", "a")`."""
    return f"input-{which}-{kind}"


def detail(kind: str) -> str:
    """A piece of the enlarged channel's panel, e.g. `detail("figure")`."""
    return f"detail-{kind}"
