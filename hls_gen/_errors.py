"""The package's one error type."""

from __future__ import annotations


class HlsError(ValueError):
    """A kernel, tensor, board or tool that HLS emission cannot use as given."""
