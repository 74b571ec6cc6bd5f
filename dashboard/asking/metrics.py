"""The numbers that every row of the tree can show."""

from __future__ import annotations

from typing import Literal

Metric = Literal["none", "magnitude", "zeros", "dead", "gradient", "entropy"]
