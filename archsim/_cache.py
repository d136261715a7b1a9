"""Where results that take long to make are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """``$ARCHSIM_CACHE``, or ``archsim`` in ``$XDG_CACHE_HOME``, or in ``.cache`` of the user's home.

    The folder is not made. Its folders: ``bench``, ``runtime``, ``design`` and ``resources`` of the
    RTL, ``mappings`` of the exact search.
    """
    if chosen := os.environ.get("ARCHSIM_CACHE"):
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "archsim"
