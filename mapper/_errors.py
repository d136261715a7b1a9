"""The mapper's errors."""

from __future__ import annotations


class MapperError(ValueError):
    """A search that a user asked for cannot be done; the message says what would."""


class NothingFitsError(MapperError):
    """No mapping fits the machine under its constraints."""
