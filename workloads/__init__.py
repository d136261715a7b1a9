"""Workloads: cascades of extended Einsums, the models they come from, and their oracles."""

from workloads._analyze import einsum_macs, inputs, macs, outputs, tensor_shapes, verify
from workloads._calibrated_file import load_calibrated, save_calibrated
from workloads._calibrated_model import (
    OUTLIER_COLUMNS,
    CalibratedModel,
    Signal,
    calibrate_encoder,
    made_from,
)
from workloads._cascade_file import load_cascade, read_cascade
from workloads._config_file import Config, read_config
from workloads._einsum import Access, Cascade, Einsum, Index
from workloads._encoder import (
    bind_encoder,
    encoder_cascade,
    encoder_result,
    layer_name,
    layer_of,
)
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
from workloads._library import LIBRARY, library_cascade
from workloads._model import HostWork, Model, Part
from workloads._operators import STANDARD, Operators, Reduction
from workloads._parse import parse
from workloads._passes import Held, Passes, Revisit, all_passes, passes
from workloads._quantise import (
    EXP2,
    Calibrated,
    Quantised,
    QuantisedKernel,
    Weight,
    evaluate_quantised,
    quantise_cascade,
    quantise_tensor,
)
from workloads._smooth import operands
from workloads._split import split_functions
from workloads._weights import Checkpoint, bind_block, embed, embed_image, load_weights
from workloads._zoo import ZOO, load_model, minilm_directory

__all__ = [
    "EXP2",
    "LIBRARY",
    "OUTLIER_COLUMNS",
    "STANDARD",
    "ZOO",
    "Access",
    "Calibrated",
    "CalibratedModel",
    "Cascade",
    "Checkpoint",
    "Config",
    "Einsum",
    "Elementwise",
    "Epilogue",
    "Held",
    "HostWork",
    "Index",
    "Kernel",
    "Model",
    "Normalise",
    "Operators",
    "Part",
    "Passes",
    "Product",
    "Quantised",
    "QuantisedKernel",
    "Reduction",
    "Requantise",
    "Revisit",
    "Rowwise",
    "Signal",
    "Softmax",
    "Weight",
    "WorkloadError",
    "all_passes",
    "bind_block",
    "bind_encoder",
    "calibrate_encoder",
    "einsum_macs",
    "embed",
    "embed_image",
    "encoder_cascade",
    "encoder_result",
    "evaluate",
    "evaluate_quantised",
    "exp2_table",
    "inputs",
    "kernels",
    "layer_name",
    "layer_of",
    "library_cascade",
    "load_calibrated",
    "load_cascade",
    "load_model",
    "load_weights",
    "macs",
    "made_from",
    "minilm_directory",
    "operands",
    "outputs",
    "parse",
    "passes",
    "quantise_cascade",
    "quantise_tensor",
    "ranks_of",
    "read_cascade",
    "read_config",
    "save_calibrated",
    "split_functions",
    "tensor_shapes",
    "verify",
]
