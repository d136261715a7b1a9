"""AXI4 and AXI4-Lite port signatures, and their conventional port names.

Source: Arm IHI 0022, "AMBA AXI and ACE Protocol Specification". One identifier is in use, so the
identifier signals are left out; so are cache, protection and quality of service, whose defaults serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

ADDRESS_BITS = 32
BURST_INCREMENT = 1
"""The burst type whose address grows by the beat size."""
BOUNDARY_BYTES = 4096
"""No burst crosses a multiple of this."""
LITE_BYTES = 4


def axi4(data_bytes: int) -> wiring.Signature:
    """AXI4 manager: 32-bit addresses, beats of ``data_bytes``."""
    return wiring.Signature({**axi4_read(data_bytes).members, **axi4_write(data_bytes).members})


def axi4_read(data_bytes: int) -> wiring.Signature:
    """The two read channels of an AXI4 manager."""
    return wiring.Signature(
        {
            "araddr": Out(ADDRESS_BITS),
            "arlen": Out(8),
            "arsize": Out(3),
            "arburst": Out(2),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(8 * data_bytes),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def axi4_write(data_bytes: int) -> wiring.Signature:
    """The three write channels of an AXI4 manager."""
    return wiring.Signature(
        {
            "awaddr": Out(ADDRESS_BITS),
            "awlen": Out(8),
            "awsize": Out(3),
            "awburst": Out(2),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(8 * data_bytes),
            "wstrb": Out(data_bytes),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
        }
    )


def axi4_lite() -> wiring.Signature:
    """AXI4-Lite manager with 32-bit addresses and words; the core has the subordinate side, its flip."""
    return wiring.Signature(
        {
            "awaddr": Out(ADDRESS_BITS),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(8 * LITE_BYTES),
            "wstrb": Out(LITE_BYTES),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(ADDRESS_BITS),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(8 * LITE_BYTES),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def flat_names(prefix: str, interface: Any) -> Iterator[tuple[str, Any]]:
    """Yields (port name, signal) of every member, named ``prefix_member``."""
    for path, _, signal in interface.signature.flatten(interface):
        yield "_".join((prefix, *map(str, path))), signal
