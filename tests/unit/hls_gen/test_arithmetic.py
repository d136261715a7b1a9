"""The header library's arithmetic against exact integers, one function at a time."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path

import hls_gen
from hls_gen import Operation, ResidualSpec
from tests.unit.hls_gen import oracle

Case = tuple[str, int, int, int]

TABLE = [i * 257 - 32768 for i in range(256)]
ENDS_16 = (-32768, -32767, -1, 0, 1, 32767)
ENDS_32 = (-(2**31), -1, 0, 1, 2**31 - 1)
ENDS_45 = (-(2**44), -1, 0, 1, 2**44 - 1)
ENDS_8 = (-128, -127, -1, 0, 1, 127)

ORACLES: dict[str, Callable[[int, int, int], tuple[int, ...]]] = {
    "affine0": lambda a, b, c: (oracle.affine(a, b, c, 0),),
    "affine17": lambda a, b, c: (oracle.affine(a, b, c, 17),),
    "affine63": lambda a, b, c: (oracle.affine(a, b, c, 63),),
    "shift_left": lambda a, b, c: (a * 2**b,),
    "add14": lambda a, b, c: (oracle.combine(a, b, c, ResidualSpec(multiplier=-32768, shift=14)),),
    "add30": lambda a, b, c: (oracle.combine(a, b, c, ResidualSpec(multiplier=-32768, shift=30)),),
    "multiply0": lambda a, b, c: (oracle.combine(a, b, c, ResidualSpec(operation=Operation.MULTIPLY)),),
    "multiply15": lambda a, b, c: (
        oracle.combine(a, b, c, ResidualSpec(operation=Operation.MULTIPLY, shift=15)),
    ),
    "lookup": lambda a, b, c: (oracle.lookup(a, TABLE),),
    "exp_lookup": lambda a, b, c: (oracle.exp_lookup(a, b, TABLE),),
    "scale": lambda a, b, c: (oracle.scale(a, b, c),),
    "reciprocal": lambda a, b, c: oracle.recip(a),
    "reciprocal_root": lambda a, b, c: oracle.rsqrt(a),
}


def cases() -> list[Case]:
    """Every entry of the reciprocal tables, every shift, and the corners of the other functions."""
    tops = [top << shift for top in range(512, 1024) for shift in (0, 3, 29)]
    powers = [(1 << bit) + step for bit in range(39) for step in (-1, 0, 1)]
    roots = [top << shift for top in range(256, 1024) for shift in (0, 4, 52)]
    squares = [(1 << bit) + step for bit in range(62) for step in (-1, 0, 1)]
    return [
        *(("reciprocal", value, 0, 0) for value in (-(2**39), -1, 0, *tops, *powers)),
        *(("reciprocal_root", value, 0, 0) for value in (-(2**62), -1, 0, *roots, *squares)),
        *(
            (name, *abc)
            for name in ("affine0", "affine17", "affine63")
            for abc in product(ENDS_32, ENDS_16, ENDS_45)
        ),
        *(("shift_left", q, left, 0) for q, left in product(range(-128, 128), range(8))),
        *(
            (name, *abc)
            for name in ("add14", "add30", "multiply0", "multiply15")
            for abc in product(ENDS_16, ENDS_8, range(8))
        ),
        *(("affine17", p, 3, 65536) for p in range(-100000, 100000, 1999)),
        *(("lookup", value, 0, 0) for value in (*range(-130, 131), *ENDS_16)),
        *(("exp_lookup", offset, value, 0) for offset, value in product(ENDS_16, ENDS_16)),
        *(("exp_lookup", 0, -value, 0) for value in range(0, 5000, 37)),
        *(("exp_lookup", offset, -32768, 0) for offset in (-(2**39), 32766, 2**39 - 1)),
        *(
            ("scale", x, mantissa, k)
            for x, mantissa, k in product(ENDS_16, (0, 1, 32736, 65535), range(5, 48))
        ),
    ]


def test_every_function_equals_exact_integers(tmp_path: Path) -> None:
    package = Path(hls_gen.__file__).parent
    source = Path(__file__).with_name("arithmetic.cpp")
    folders = ["-I", str(package / "include"), "-isystem", str(hls_gen.ap_include_dir())]
    program = tmp_path / "arithmetic"
    flags = ["-std=c++17", "-O1", "-Wno-unknown-pragmas"]
    subprocess.run(["g++", *flags, *folders, str(source), "-o", str(program)], check=True)

    asked = cases()
    lines = "".join(f"{name} {a} {b} {c}\n" for name, a, b, c in asked)
    done = subprocess.run([str(program)], input=lines, capture_output=True, text=True, check=True)
    got = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    expected = [ORACLES[name](a, b, c) for name, a, b, c in asked]
    wrong = [each for each in zip(asked, got, expected, strict=True) if each[1] != each[2]]
    assert wrong == []
    assert len(asked) > 6000
