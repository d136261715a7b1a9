"""What a run's files say, read back."""

from __future__ import annotations

from archsim._program import Region
from rtl._jobs import NEVER, beside, region_cycles, untimely


def region(tensor: str, address: int, size_bytes: int) -> Region:
    return Region(tensor, address, size_bytes, 1, 1, size_bytes, "output")


def test_a_region_is_complete_with_the_last_of_its_pages() -> None:
    regions = (
        region("whole", 0, 2 * 4096),
        region("part", 2 * 4096, 4097),
        region("none", 4 * 4096, 4096),
        region("behind", 5 * 4096 + 100, 8),
    )
    pages = {0: 30, 1: 20, 3: 7, 5: 9, 6: 50}
    assert region_cycles(regions, pages) == {"whole": 30, "part": 7, "behind": 9}


def test_tensors_of_either_side_are_put_beside_each_other() -> None:
    pairs = {"Y": (1, 2), "A": (5, NEVER), "Z": (NEVER, 3)}
    assert beside({"Y": 1, "A": 5}, {"Z": 3, "Y": 2}) == pairs


def test_each_tensor_in_another_cycle_has_a_sentence() -> None:
    assert untimely({"Y": 10, "Z": 11}, {"Y": 10, "Z": 12}) == ("Z: last byte expected in cycle 11, got 12",)
    assert untimely({"Y": 10}, {"Y": 10}) == ()
    assert untimely({}, {"Y": 10}) == ()
