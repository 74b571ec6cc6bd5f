"""What stands under a card's wall and numbers, in order: one more is one more line."""

from __future__ import annotations

from hookscope.dashboard.panels.card import numbers, over_set, weights
from hookscope.hooks.methods import Rows

REGIONS = Rows(over_set.REGION, numbers.REGION, weights.REGION)
