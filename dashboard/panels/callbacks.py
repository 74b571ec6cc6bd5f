"""What a callback says of values that no page of ours sends."""

from __future__ import annotations


class NotAsked(ValueError):
    """A callback was given a value that no page of ours sends."""
