"""Passes of one's own cascade, and of the forms of attention, with what each must keep on chip."""

from __future__ import annotations

from workloads import library_cascade, parse, passes

STANDARDISED = """cascade standardised
ranks n=8, d=512

M[n] = X[n, d]
C[n, d] = X[n, d] - M[n]
V[n] = C[n, d] * C[n, d]
Y[n, d] = C[n, d] / V[n]
"""


def main() -> None:
    """Print the passes of a normalisation in full, and those of attention in one line each."""
    print(passes(parse(STANDARDISED), "d"), end="\n\n")
    for name, rank in (
        ("naive", "m"),
        ("three-pass", "m"),
        ("deferred", "m"),
        ("two-pass", "m1"),
        ("one-pass", "m1"),
    ):
        found = passes(library_cascade(f"attention:{name}", seq=4096), rank)
        print(f"{name:12} {found.count} over {rank:2}, {found.live:5,} elements a query to keep")


if __name__ == "__main__":
    main()
