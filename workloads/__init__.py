"""Workloads: cascades of extended Einsums, the models they come from, and their oracles."""

from workloads._analyze import einsum_macs, inputs, macs, outputs, tensor_shapes, verify
from workloads._attention_kernel import Attention, attention_of
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
from workloads._exp2 import EXP2_COEFFICIENTS, exp2_fixed
from workloads._hgrn import HgrnSizes, hgrn_parts, hgrn_sizes
from workloads._hgrn_file import LanguageModel, load_language_model, ternary_lm_directory
from workloads._hgrn_float import FloatModel, random_hgrn
from workloads._hgrn_integer import (
    IntegerBlock,
    Shifts,
    TernaryModel,
    TernaryProduct,
    joined,
    quantise_hgrn,
    split,
)
from workloads._hgrn_text import Chooser, bits_per_token, most_likely, own_text, sampled, write
from workloads._integer import exp2_table
from workloads._integer_attention import (
    MAX_FEATURES,
    MAX_KEYS,
    MAX_SCALE_SHIFT,
    MAX_SHIFT,
    AttentionScales,
    attend,
    attention_scales,
    divide,
)
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
    quantise_attention,
    quantise_cascade,
    quantise_tensor,
)
from workloads._quantise_attention import QuantisedAttention
from workloads._smooth import operands
from workloads._split import split_functions
from workloads._trits import pack_trits, unpack_trits
from workloads._weights import Checkpoint, bind_block, embed, embed_image, load_weights
from workloads._zoo import ZOO, load_model, matmul_free, minilm_directory

__all__ = [
    "EXP2",
    "EXP2_COEFFICIENTS",
    "LIBRARY",
    "MAX_FEATURES",
    "MAX_KEYS",
    "MAX_SCALE_SHIFT",
    "MAX_SHIFT",
    "OUTLIER_COLUMNS",
    "STANDARD",
    "ZOO",
    "Access",
    "Attention",
    "AttentionScales",
    "Calibrated",
    "CalibratedModel",
    "Cascade",
    "Checkpoint",
    "Chooser",
    "Config",
    "Einsum",
    "Elementwise",
    "Epilogue",
    "FloatModel",
    "Held",
    "HgrnSizes",
    "HostWork",
    "Index",
    "IntegerBlock",
    "Kernel",
    "LanguageModel",
    "Model",
    "Normalise",
    "Operators",
    "Part",
    "Passes",
    "Product",
    "Quantised",
    "QuantisedAttention",
    "QuantisedKernel",
    "Reduction",
    "Requantise",
    "Revisit",
    "Rowwise",
    "Shifts",
    "Signal",
    "Softmax",
    "TernaryModel",
    "TernaryProduct",
    "Weight",
    "WorkloadError",
    "all_passes",
    "attend",
    "attention_of",
    "attention_scales",
    "bind_block",
    "bind_encoder",
    "bits_per_token",
    "calibrate_encoder",
    "divide",
    "einsum_macs",
    "embed",
    "embed_image",
    "encoder_cascade",
    "encoder_result",
    "evaluate",
    "evaluate_quantised",
    "exp2_fixed",
    "exp2_table",
    "hgrn_parts",
    "hgrn_sizes",
    "inputs",
    "joined",
    "kernels",
    "layer_name",
    "layer_of",
    "library_cascade",
    "load_calibrated",
    "load_cascade",
    "load_language_model",
    "load_model",
    "load_weights",
    "macs",
    "made_from",
    "matmul_free",
    "minilm_directory",
    "most_likely",
    "operands",
    "outputs",
    "own_text",
    "pack_trits",
    "parse",
    "passes",
    "quantise_attention",
    "quantise_cascade",
    "quantise_hgrn",
    "quantise_tensor",
    "random_hgrn",
    "ranks_of",
    "read_cascade",
    "read_config",
    "sampled",
    "save_calibrated",
    "split",
    "split_functions",
    "tensor_shapes",
    "ternary_lm_directory",
    "unpack_trits",
    "verify",
    "write",
]
