"""Workloads: cascades of extended Einsums, the models they come from, and their oracles."""

from workloads._analyze import einsum_macs, inputs, macs, outputs, tensor_shapes, verify
from workloads._cascade_file import load_cascade, read_cascade
from workloads._einsum import Access, Cascade, Einsum, Index
from workloads._errors import WorkloadError
from workloads._evaluate import evaluate
from workloads._integer import exp2_table
from workloads._kernel import (
    Elementwise,
    Epilogue,
    Kernel,
    Normalise,
    Product,
    Requantise,
    Rowwise,
    Softmax,
    kernels,
    ranks_of,
)
from workloads._model import HostWork, Model, Part
from workloads._operators import STANDARD, Operators, Reduction
from workloads._parse import parse
from workloads._quantise import (
    EXP2,
    Quantised,
    QuantisedKernel,
    evaluate_quantised,
    quantise_cascade,
    quantise_tensor,
)
from workloads._split import split_functions
from workloads._weights import Checkpoint, bind_block, embed, load_weights
from workloads._zoo import ZOO, load_model, minilm_directory

__all__ = [
    "EXP2",
    "STANDARD",
    "ZOO",
    "Access",
    "Cascade",
    "Checkpoint",
    "Einsum",
    "Elementwise",
    "Epilogue",
    "HostWork",
    "Index",
    "Kernel",
    "Model",
    "Normalise",
    "Operators",
    "Part",
    "Product",
    "Quantised",
    "QuantisedKernel",
    "Reduction",
    "Requantise",
    "Rowwise",
    "Softmax",
    "WorkloadError",
    "bind_block",
    "einsum_macs",
    "embed",
    "evaluate",
    "evaluate_quantised",
    "exp2_table",
    "inputs",
    "kernels",
    "load_cascade",
    "load_model",
    "load_weights",
    "macs",
    "minilm_directory",
    "outputs",
    "parse",
    "quantise_cascade",
    "quantise_tensor",
    "ranks_of",
    "read_cascade",
    "split_functions",
    "tensor_shapes",
    "verify",
]
