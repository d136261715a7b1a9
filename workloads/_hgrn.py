"""The MatMul-free language model: its sizes, and one block as a cascade with a state along the tokens.

Source: Zhu et al., Scalable MatMul-free Language Modeling, 2024, and the order of operations of its public
code (``model_type`` hgrn_bit). Every linear layer normalises its input without a gain of its own, quantises
it token by token to int8 and multiplies it by trits; its weights are those trits times one scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workloads._block import Run, part
from workloads._config_file import Config
from workloads._einsum import Access, Einsum, Index
from workloads._model import Part
from workloads._transformer import Fragment, add, cascade, product, rmsnorm, subtract, tensor, total, unary

LINEAR_EPS = 1e-8
"""Added to the mean square of a linear layer's input."""
LEAST_MAGNITUDE = 1e-5
"""What the largest magnitude of a normalised input counts as, at least."""
LEVELS = 127
"""Largest magnitude of a quantised input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HgrnSizes:
    """Dimensions of a MatMul-free language model."""

    vocab: int
    hidden: int
    layers: int
    inner: int
    lower_bounds: bool = True
    """Whether each layer's forget gate has a learned least value, which is 0 in the first layer."""
    eps: float = 1e-6

    @property
    def ternary(self) -> int:
        """Ternary weights."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.inner) + self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All learned numbers: trits, embeddings, gains of the norms, lower bounds."""
        gains = (3 + self.lower_bounds) * self.layers * self.hidden + self.hidden
        return self.ternary + self.vocab * self.hidden + gains


def inner_size(hidden: int, ratio: int = 4) -> int:
    """The feed-forward's size where a configuration gives none: two thirds of ``ratio``, in 256s."""
    return 256 * -(-int(hidden * ratio * 2 / 3) // 256)


def hgrn_sizes(config: Config) -> HgrnSizes:
    """The sizes that ``config`` gives, with the public code's defaults; refuses its untrained variants."""
    config.choice("hidden_act", {"swish": None, "silu": None}, "swish")
    config.same("expand_ratio", 1, "a state as wide as the model")
    if config.flag("use_short_conv", False):
        raise config.error("use_short_conv", "false", True)
    hidden = config.size("hidden_size")
    return HgrnSizes(
        vocab=config.size("vocab_size"),
        hidden=hidden,
        layers=config.size("num_hidden_layers"),
        inner=config.size("intermediate_size", inner_size(hidden, config.size("hidden_ratio", 4))),
        lower_bounds=config.flag("use_lower_bound", True),
        eps=config.number("rms_norm_eps", 1e-6),
    )


def hgrn_parts(sizes: HgrnSizes, run: Run) -> tuple[Part, ...]:
    """The block, once a layer, from ``X`` to ``Z``, and the head, from ``Z`` to ``LGY``.

    In a decode the block's input ``HS`` is the state that the token before left, and ``H`` at 1 the new one.
    """
    ranks = {"b": run.batch, "p": run.queries, "d": sizes.hidden, "e": sizes.hidden}
    ranks |= {"j": sizes.inner, "v": sizes.vocab}
    block = cascade("block", ranks, _mixer(sizes, run), _feed_forward(run))
    head = cascade("head", ranks, _head(run))
    fixed = _constants(sizes)
    return (
        part(block, repeat=sizes.layers, inputs=frozenset({"X", "HS"}), constants=fixed),
        part(head, inputs=frozenset({"Z"}), constants=fixed),
    )


def _constants(sizes: HgrnSizes) -> Mapping[str, float]:
    return {
        "INV": 1 / sizes.hidden,
        "INVJ": 1 / sizes.inner,
        "EPS": sizes.eps,
        "EPSL": LINEAR_EPS,
        "LEAST": LEAST_MAGNITUDE,
        "LEVELS": LEVELS,
        "UNITY": 1.0,
    }


def _mixer(sizes: HgrnSizes, run: Run) -> Fragment:
    """Norm, the gated recurrence, its output's norm and gate, projection, residual ``R1``."""
    rows, full = run.rows, run.rows + "d"
    gate, forget = _forget_gate(sizes, rows)
    state = _state(run, forget)
    return (
        *rmsnorm("XN", "X", rows=rows),
        *_quantised("XQ", "XN", rows=rows, over="d"),
        *_linear("I", "XQ", rows=rows, ins="d", outs="d"),
        *_linear("F", "XQ", rows=rows, ins="d", outs="d"),
        *_linear("G", "XQ", rows=rows, ins="d", outs="d"),
        *gate,
        *state,
        *rmsnorm("ON", "HO", rows=rows),
        unary(tensor("GA", full), tensor("GY", full), "silu"),
        product(tensor("O", full), tensor("ON", full), tensor("GA", full)),
        *_quantised("OQ", "O", rows=rows, over="d"),
        *_linear("P", "OQ", rows=rows, ins="d", outs="d"),
        add(tensor("R1", full), tensor("PY", full), tensor("X", full)),
    )


def _forget_gate(sizes: HgrnSizes, rows: str) -> tuple[Fragment, str]:
    """The forget gate's Einsums and its name: ``LB + (1 - LB) * sigmoid``."""
    full = rows + "d"
    opened = unary(tensor("FA", full), tensor("FY", full), "sigmoid")
    if not sizes.lower_bounds:
        return (opened,), "FA"
    rest = subtract(tensor("LC", "d"), tensor("UNITY"), tensor("LB", "d"))
    scaled = product(tensor("FC", full), opened.output, rest.output)
    return (opened, rest, scaled, add(tensor("FB", full), scaled.output, tensor("LB", "d"))), "FB"


def _state(run: Run, forget: str) -> Fragment:
    """``H[p + 1] = f * H[p] + silu(i) * (1 - f)`` from zero or from ``HS``, and its copy ``HO``."""
    full = run.rows + "d"
    lead = tensor("H", run.lead).indices
    first = Access("H", (*lead, Index((), 0), Index((("d", 1),))))
    after = Access("H", (*lead, Index((("p", 1),), 1), Index((("d", 1),))))
    start = Einsum(first, (), "0")
    if run.phase == "decode":
        start = Einsum(first, (tensor("HS", run.lead + "d"),), "identity")
    return (
        start,
        unary(tensor("IA", full), tensor("IY", full), "silu"),
        subtract(tensor("FR", full), tensor("UNITY"), tensor(forget, full)),
        product(tensor("IG", full), tensor("IA", full), tensor("FR", full)),
        product(tensor("FH", full), tensor(forget, full), tensor("H", full)),
        add(after, tensor("FH", full), tensor("IG", full)),
        Einsum(tensor("HO", full), (after,), "identity"),
    )


def _feed_forward(run: Run) -> Fragment:
    """Norm, gate and up projection, gated product, down projection, residual ``Z``."""
    rows, full, inner = run.rows, run.rows + "d", run.rows + "j"
    return (
        *rmsnorm("YN", "R1", rows=rows),
        *_quantised("YQ", "YN", rows=rows, over="d"),
        *_linear("A", "YQ", rows=rows, ins="d", outs="j"),
        unary(tensor("AA", inner), tensor("AY", inner), "silu"),
        *_linear("U", "YQ", rows=rows, ins="d", outs="j"),
        product(tensor("AU", inner), tensor("AA", inner), tensor("UY", inner)),
        *_quantised("DQ", "AU", rows=rows, over="j"),
        *_linear("D", "DQ", rows=rows, ins="j", outs="d"),
        add(tensor("Z", full), tensor("DY", full), tensor("R1", full)),
    )


def _head(run: Run) -> Fragment:
    return (
        *rmsnorm("ZN", "Z", rows=run.rows),
        *_quantised("ZQ", "ZN", rows=run.rows, over="d"),
        *_linear("LG", "ZQ", rows=run.rows, ins="d", outs="v"),
    )


def _quantised(out: str, source: str, *, rows: str, over: str) -> Fragment:
    """``out`` in -127 .. 127 from the normalised ``source``, and ``outS``, what one unit of it means."""
    full, scale = rows + over, tensor(f"{out}S", rows)
    x, normed = tensor(source, full), tensor(f"{out}N", full)
    magnitude, largest = tensor(f"{out}A", full), tensor(f"{out}M", rows)
    floored = Einsum(tensor(f"{out}L", rows), (largest, tensor("LEAST")), "max")
    return (
        *_reciprocal_root(out, x, rows=rows, inverse="INVJ" if over == "j" else "INV"),
        product(normed, x, tensor(f"{out}R", rows)),
        unary(magnitude, normed, "abs"),
        total(largest, magnitude, "max"),
        floored,
        Einsum(scale, (floored.output, tensor("LEVELS")), "div"),
        Einsum(tensor(out, full), (normed, scale), "div", unary="round"),
    )


def _reciprocal_root(out: str, x: Access, *, rows: str, inverse: str) -> Fragment:
    squares, sums, mean = Access(f"{out}Q", x.indices), tensor(f"{out}V", rows), tensor(f"{out}E", rows)
    return (
        product(squares, x, x),
        total(sums, squares),
        product(mean, sums, tensor(inverse)),
        Einsum(tensor(f"{out}R", rows), (mean, tensor("EPSL")), "add", unary="rsqrt"),
    )


def _linear(out: str, source: str, *, rows: str, ins: str, outs: str) -> Fragment:
    """``outY``: the trits' sums ``out``, times the input's scale, times the weights' scale ``Sout``.

    A square layer's input rank is written e, so that it is not its output's.
    """
    from_ = "e" if ins == outs else ins
    sums = product(tensor(out, rows + outs), tensor(source, rows + from_), tensor(f"W{out}", from_ + outs))
    scaled = product(tensor(f"{out}X", rows + outs), sums.output, tensor(f"{source}S", rows))
    return (sums, scaled, product(tensor(f"{out}Y", rows + outs), scaled.output, tensor(f"S{out}")))
