"""The package's exception."""

from __future__ import annotations


class RtlError(ValueError):
    """A user's mistake in an architecture or a program, in the form "X must be R, not 'value'"."""
