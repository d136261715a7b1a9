"""Mapper: the tilings of a cascade's kernels that an objective likes best; proved optima on hierarchies."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mapper._errors import MapperError
    from mapper._exact import METRICS, ExactResult, Metric, Point, exact_search, prepare
    from mapper._fused import FusedResult, fused_search
    from mapper._io_bounds import attention_bound, attention_order, matmul_bound
    from mapper._search import OBJECTIVES, Candidate, Objective, Space, explore, search, tiles
    from mapper._timeloop import export_timeloop

__all__ = [
    "METRICS",
    "OBJECTIVES",
    "Candidate",
    "ExactResult",
    "FusedResult",
    "MapperError",
    "Metric",
    "Objective",
    "Point",
    "Space",
    "attention_bound",
    "attention_order",
    "exact_search",
    "explore",
    "export_timeloop",
    "fused_search",
    "matmul_bound",
    "prepare",
    "search",
    "tiles",
]

_NAMES = {
    "_errors": ("MapperError",),
    "_exact": ("METRICS", "ExactResult", "Metric", "Point", "exact_search", "prepare"),
    "_fused": ("FusedResult", "fused_search"),
    "_io_bounds": ("attention_bound", "attention_order", "matmul_bound"),
    "_search": ("OBJECTIVES", "Candidate", "Objective", "Space", "explore", "search", "tiles"),
    "_timeloop": ("export_timeloop",),
}
"""Module -> its names. They are imported when first used, since the exact search takes a while to load."""
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


if not TYPE_CHECKING:  # so that a checker still sees a misspelt name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"mapper.{_MODULES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
