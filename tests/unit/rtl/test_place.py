"""nextpnr's report as a value, and the constraints of a board's pins."""

from __future__ import annotations

from archsim import load_board
from rtl._place import Segment, lpf, read_report

REPORT = {
    "fmax": {
        "$glbnet$clk": {"achieved": 90.5, "constraint": 100.0},
        "osc": {"achieved": 400.0, "constraint": 25.0},
    },
    "utilization": {"TRELLIS_FF": {"used": 3, "available": 10}, "DCCA": {"used": 0, "available": 56}},
    "critical_paths": [
        {"from": "posedge osc", "to": "posedge osc", "path": []},
        {
            "from": "posedge $glbnet$clk",
            "to": "posedge $glbnet$clk",
            "path": [
                {"type": "clk-to-q", "delay": 0.5, "from": {"cell": "a"}, "to": {"cell": "a"}},
                {"type": "routing", "delay": 1.5, "from": {"cell": "a"}, "to": {"cell": "b"}, "net": "n"},
            ],
        },
    ],
}


def test_the_slowest_domain_is_the_clock() -> None:
    placed = read_report(REPORT)
    assert (placed.clock_mhz, placed.constraint_mhz, placed.met) == (90.5, 100.0, False)
    assert placed.used == {"TRELLIS_FF": 3}
    assert placed.critical == (
        Segment(kind="clk-to-q", delay_ns=0.5, cell="a", net=""),
        Segment(kind="routing", delay_ns=1.5, cell="b", net="n"),
    )


def test_constraints_place_every_port() -> None:
    lines = lpf(load_board("colorlight-i5")).splitlines()
    assert lines[2:7] == [
        'FREQUENCY PORT "clk" 25 MHZ;',
        'LOCATE COMP "clk" SITE "P3";',
        'IOBUF PORT "clk" IO_TYPE=LVCMOS33;',
        'LOCATE COMP "uart_rx" SITE "H18";',
        'IOBUF PORT "uart_rx" IO_TYPE=LVCMOS33 PULLMODE=UP;',
    ]
    assert sum(line.startswith('LOCATE COMP "leds[') for line in lines) == 8
