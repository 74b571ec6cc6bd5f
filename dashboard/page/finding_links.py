"""Where a finding leads: what a view shows that has it before one's eyes."""

from __future__ import annotations

from typing import Any

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.hooks.results.findings import Finding

GRADIENTS = ("vanishing-gradients", "exploding-gradients")
OF_LABELS = ("label-order", "class-count")


def changes_for(finding: Finding) -> dict[str, Any]:
    """The fields of a view that show it, but for the picture; those that are not named stay as they are.

    Of a layer its card, of some channels the first of them enlarged; of gradients their course along the depth; of
    labels the set; of a preparation the picture beside the same prepared as proposed.
    """
    key = key_of(finding.layer, finding.call) if finding.layer else ""
    if finding.rule in GRADIENTS:
        return {"tab": "depth", "depth": "gradients", **({"layers": [key]} if key else {})}
    if finding.preparation:
        return {"tab": "layers", "prepare_b": finding.preparation, **({"layers": [key]} if key else {})}
    if key:
        enlarged = {"detail": key, "channel": finding.channels[0]} if finding.channels else {}
        return {"tab": "layers", "layers": [key], **enlarged, **({"rank": finding.rank} if finding.rank else {})}
    return {"tab": "pictures"} if finding.rule in OF_LABELS else {"tab": "findings"}
