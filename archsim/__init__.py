"""archsim: architectures, mappings and programs, and the models that time them."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsim._account import energy_per_count
    from archsim._architecture import Architecture, Array, Bus, Memory, Scratchpad, Vector
    from archsim._architecture_file import (
        architecture_names,
        architecture_schema,
        architecture_text,
        load_architecture,
        parse_architecture,
    )
    from archsim._attention_plan import AttentionPlan
    from archsim._board import Board
    from archsim._board_file import board_names, load_board, parse_board
    from archsim._breakdown import Breakdown, Share, Spent, breakdown, layers
    from archsim._combine import combine
    from archsim._count import Counts, count_product, count_rows
    from archsim._count_attention import count_attention
    from archsim._counters import COUNTERS, STALL_BASE, Counter
    from archsim._energy import EnergyEntry, EnergyTable, price
    from archsim._energy_file import energy_table_names, load_energy_table
    from archsim._errors import ArchsimError
    from archsim._estimate import bound, estimate, estimate_planned
    from archsim._estimate_value import Estimate, Row, from_json, subtract
    from archsim._finish import written_at
    from archsim._hgrn_estimate import bound_hgrn, estimate_hgrn, limit_of
    from archsim._hgrn_image import hgrn_image, hgrn_step_image, hgrn_weights, logit_bytes, logits_of
    from archsim._hgrn_levels import measured_hgrn
    from archsim._hierarchy import DATAFLOWS, Hierarchy, Level, SpatialDimension
    from archsim._hierarchy_file import hierarchy_names, load_hierarchy, parse_hierarchy
    from archsim._image import image, tensors_of
    from archsim._levels import measured, timed
    from archsim._lower import Lowered, lower, program_length
    from archsim._lower_hgrn import LoweredHgrn, lower_hgrn
    from archsim._mapping import Mapping, mapping_of, tiling_of
    from archsim._nest import Holder, Nest, SpatialLoop, TemporalLoop, parse_nest
    from archsim._nest_cost import NestCost, evaluate_nest
    from archsim._plan import Plan, Planned, ProductPlan, RowPlan, plan
    from archsim._program import Instruction, Operand, Program, Region
    from archsim._programs import programs
    from archsim._resources import estimate_resources
    from archsim._resources_value import Resources
    from archsim._simulate import Simulation, simulate
    from archsim._spatial import Spatial
    from archsim._spatial_estimate import estimate_spatial
    from archsim._spatial_file import load_spatial, parse_spatial, spatial_names
    from archsim._tiling import Tiling, Tilings, attention_tiling, granule_of, legal
    from archsim._trace import trace_json, write_trace

__all__ = [
    "COUNTERS",
    "DATAFLOWS",
    "STALL_BASE",
    "Architecture",
    "ArchsimError",
    "Array",
    "AttentionPlan",
    "Board",
    "Breakdown",
    "Bus",
    "Counter",
    "Counts",
    "EnergyEntry",
    "EnergyTable",
    "Estimate",
    "Hierarchy",
    "Holder",
    "Instruction",
    "Level",
    "Lowered",
    "LoweredHgrn",
    "Mapping",
    "Memory",
    "Nest",
    "NestCost",
    "Operand",
    "Plan",
    "Planned",
    "ProductPlan",
    "Program",
    "Region",
    "Resources",
    "Row",
    "RowPlan",
    "Scratchpad",
    "Share",
    "Simulation",
    "Spatial",
    "SpatialDimension",
    "SpatialLoop",
    "Spent",
    "TemporalLoop",
    "Tiling",
    "Tilings",
    "Vector",
    "architecture_names",
    "architecture_schema",
    "architecture_text",
    "attention_tiling",
    "board_names",
    "bound",
    "bound_hgrn",
    "breakdown",
    "combine",
    "count_attention",
    "count_product",
    "count_rows",
    "energy_per_count",
    "energy_table_names",
    "estimate",
    "estimate_hgrn",
    "estimate_planned",
    "estimate_resources",
    "estimate_spatial",
    "evaluate_nest",
    "from_json",
    "granule_of",
    "hgrn_image",
    "hgrn_step_image",
    "hgrn_weights",
    "hierarchy_names",
    "image",
    "layers",
    "legal",
    "limit_of",
    "load_architecture",
    "load_board",
    "load_energy_table",
    "load_hierarchy",
    "load_spatial",
    "logit_bytes",
    "logits_of",
    "lower",
    "lower_hgrn",
    "mapping_of",
    "measured",
    "measured_hgrn",
    "parse_architecture",
    "parse_board",
    "parse_hierarchy",
    "parse_nest",
    "parse_spatial",
    "plan",
    "price",
    "program_length",
    "programs",
    "simulate",
    "spatial_names",
    "subtract",
    "tensors_of",
    "tiling_of",
    "timed",
    "trace_json",
    "write_trace",
    "written_at",
]

_NAMES = {
    "_account": ("energy_per_count",),
    "_architecture": ("Architecture", "Array", "Bus", "Memory", "Scratchpad", "Vector"),
    "_architecture_file": (
        "architecture_names",
        "architecture_schema",
        "architecture_text",
        "load_architecture",
        "load_board",
        "parse_architecture",
        "parse_board",
    ),
    "_attention_plan": ("AttentionPlan",),
    "_board": ("Board",),
    "_board_file": ("board_names", "load_board", "parse_board"),
    "_breakdown": ("Breakdown", "Share", "Spent", "breakdown", "layers"),
    "_combine": ("combine",),
    "_count": ("Counts", "count_product", "count_rows"),
    "_count_attention": ("count_attention",),
    "_counters": ("COUNTERS", "STALL_BASE", "Counter"),
    "_energy": ("EnergyEntry", "EnergyTable", "price"),
    "_energy_file": ("energy_table_names", "load_energy_table"),
    "_errors": ("ArchsimError",),
    "_estimate": ("bound", "estimate", "estimate_planned"),
    "_estimate_value": ("Estimate", "Row", "from_json", "subtract"),
    "_finish": ("written_at",),
    "_hierarchy": ("DATAFLOWS", "Hierarchy", "Level", "SpatialDimension"),
    "_hierarchy_file": ("hierarchy_names", "load_hierarchy", "parse_hierarchy"),
    "_hgrn_estimate": ("bound_hgrn", "estimate_hgrn", "limit_of"),
    "_hgrn_image": ("hgrn_image", "hgrn_step_image", "hgrn_weights", "logit_bytes", "logits_of"),
    "_hgrn_levels": ("measured_hgrn",),
    "_image": ("image", "tensors_of"),
    "_levels": ("measured", "timed"),
    "_lower": ("Lowered", "lower", "program_length"),
    "_lower_hgrn": ("LoweredHgrn", "lower_hgrn"),
    "_mapping": ("Mapping", "mapping_of", "tiling_of"),
    "_nest": ("Holder", "Nest", "SpatialLoop", "TemporalLoop", "parse_nest"),
    "_nest_cost": ("NestCost", "evaluate_nest"),
    "_plan": ("Plan", "Planned", "ProductPlan", "RowPlan", "plan"),
    "_program": ("Instruction", "Operand", "Program", "Region"),
    "_programs": ("programs",),
    "_resources": ("estimate_resources",),
    "_resources_value": ("Resources",),
    "_simulate": ("Simulation", "simulate"),
    "_spatial": ("Spatial",),
    "_spatial_estimate": ("estimate_spatial",),
    "_spatial_file": ("load_spatial", "parse_spatial", "spatial_names"),
    "_tiling": ("Tiling", "Tilings", "attention_tiling", "granule_of", "legal"),
    "_trace": ("trace_json", "write_trace"),
}
"""Module -> its names. They are imported when first used, so that the command's help needs no compiler."""
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


if not TYPE_CHECKING:  # so that a checker still sees a misspelt name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"archsim.{_MODULES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
