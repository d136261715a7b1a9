"""Mapper: finds the tilings of a cascade's kernels that an objective likes best."""

from mapper._errors import MapperError
from mapper._search import OBJECTIVES, Candidate, Objective, Space, explore, search, tiles

__all__ = ["OBJECTIVES", "Candidate", "MapperError", "Objective", "Space", "explore", "search", "tiles"]
