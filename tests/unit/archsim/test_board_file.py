"""Boards of the library and of files: what they hold, and how mistakes are refused."""

from __future__ import annotations

import pytest

from archsim import ArchsimError, board_names, load_board, parse_board
from archsim._board_file import ecp5_device

TEXT = """\
name: mine
family: ecp5
part: LFE5U-45F-6BG381C
clock_mhz: 25
source: me
capacity: {lut: 43848, ff: 43848, dsp: 72, bram_kbit: 1944}
pins: {clock: G2, uart_rx: M1, uart_tx: L4}
"""


def test_every_board_of_the_library_is_named_as_its_file_and_says_its_source() -> None:
    boards = [load_board(name) for name in board_names()]
    assert [board.name for board in boards] == list(board_names())
    assert all(board.source for board in boards)
    assert {board.family for board in boards} == {"ecp5", "xcup", "versal", "stratix10"}


def test_the_ulx3s_has_the_pins_of_its_published_constraints() -> None:
    # github.com/emard/ulx3s, doc/constraints/ulx3s_v20.lpf
    board = load_board("ulx3s-85f")
    assert board.pins is not None
    assert (board.pins.clock, board.pins.uart_rx, board.pins.uart_tx) == ("G2", "M1", "L4")
    assert board.pins.leds == ("B2", "C2", "C1", "D2", "D1", "E2", "E1", "H3")
    assert ecp5_device(board.part) == ("--85k", "CABGA381", "6")


def test_a_file_is_a_board() -> None:
    board = parse_board(TEXT)
    assert (board.name, board.clock_mhz) == ("mine", 25)
    assert ecp5_device(board.part) == ("--45k", "CABGA381", "6")


@pytest.mark.parametrize(
    "part", ["LFE5U-45F", "LFE5U-99F-6BG381C", "LFE5U-45F-9BG381C", "LFE5U-45F-6XX381C", ""]
)
def test_a_part_that_is_no_ecp5_has_no_device(part: str) -> None:
    assert ecp5_device(part) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("G2", "g2", "b.yaml:7: pins.clock must be text that matches [A-Z]{1,2}[0-9]{1,2}, not 'g2'"),
        ("clock_mhz: 25", "clock_mhz: 0", "b.yaml:4: clock_mhz must be at least 1, not 0"),
        (
            "45F",
            "46F",
            "b.yaml:3: part must be an ECP5 part number, as LFE5U-85F-6BG381C, not 'LFE5U-46F-6BG381C'",
        ),
        (
            "pins:",
            "pin:",
            (
                "b.yaml:7: pin must be one of name, family, part, clock_mhz, source, board_part, capacity,"
                " pins; did you mean 'pins'?"
            ),
        ),
    ],
)
def test_mistakes_are_refused_with_their_line(old: str, new: str, message: str) -> None:
    with pytest.raises(ArchsimError) as raised:
        parse_board(TEXT.replace(old, new), source="b.yaml")
    assert str(raised.value).splitlines()[0] == message


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ArchsimError, match=r"not 'ulx3s'; did you mean 'ulx3s-85f'\?$"):
        load_board("ulx3s")
