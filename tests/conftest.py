"""Settings that every test shares."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

# Deadlines measure the machine, not the code; the same examples on every run make a failure a fact.
settings.register_profile(
    "archsim",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile(
    "search",
    deadline=None,
    max_examples=2000,
    database=DirectoryBasedExampleDatabase(".cache/hypothesis"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("archsim")
