"""The package's one exception."""

from __future__ import annotations


class WorkloadError(ValueError):
    """A workload that a user wrote or brought is wrong; the message says where, what was wanted and found."""
