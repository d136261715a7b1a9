"""The package's one kind of user error."""

from __future__ import annotations


class ArchsimError(ValueError):
    """What the user gave cannot be used; the message says what was wanted and what was found."""
