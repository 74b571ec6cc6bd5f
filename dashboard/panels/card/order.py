"""What stands under a card's wall and numbers, in order: one more is one more line."""

from __future__ import annotations

from hookscope.dashboard.panels.card import numbers, weights
from hookscope.hooks.methods import Rows

REGIONS = Rows(numbers.REGION, weights.REGION)
