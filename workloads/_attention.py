"""Attention as cascades: one function for each way to compute ``softmax(Q K) V`` that the field uses.

All give the same values and differ in their passes over the keys. Ranks: p query, m key (m1 tiles of m0,
s splits of m1 tiles), e feature of queries and keys, f feature of values, h head of keys, g query head
within it. The usual scale of the scores is taken to be in ``Q``. The taxonomy and the tensors' names are
those of N. Nayak et al., FuseMax, MICRO 2024; ``passes`` derives the counts stated here.
"""

from __future__ import annotations

from collections.abc import Mapping

from workloads._einsum import Cascade
from workloads._parse import parse


def spelled(name: str, ranks: Mapping[str, int], text: str) -> Cascade:
    """The cascade of these statements, over those ranks."""
    sizes = ", ".join(f"{rank}={size}" for rank, size in ranks.items())
    return parse(f"cascade {name}\nranks {sizes}\n\n{text}")


def naive(*, p: int, m: int, e: int, f: int) -> Cascade:
    """Softmax without a maximum: 2 passes over the keys, and overflow for large scores."""
    return spelled(
        "naive",
        {"p": p, "m": m, "e": e, "f": f},
        """
        QK[m, p] = Q[e, p] * K[e, m]
        SN[m, p] = exp(QK[m, p])
        SD[p] = SN[m, p]
        A[m, p] = SN[m, p] / SD[p]
        AV[f, p] = A[m, p] * V[f, m]
        """,
    )


def three_pass(*, p: int, m: int, e: int, f: int) -> Cascade:
    """Softmax with a maximum, as PyTorch, TensorFlow and FLAT (Kao et al., ASPLOS 2023): 3 passes."""
    return spelled(
        "three-pass",
        {"p": p, "m": m, "e": e, "f": f},
        """
        QK[m, p] = Q[e, p] * K[e, m]
        GM[p] = max[m] QK[m, p]
        SN[m, p] = exp(QK[m, p] - GM[p])
        SD[p] = SN[m, p]
        A[m, p] = SN[m, p] / SD[p]
        AV[f, p] = A[m, p] * V[f, m]
        """,
    )


def deferred(*, p: int, m: int, e: int, f: int) -> Cascade:
    """The three-pass cascade with the division moved behind the sum over the keys: 2 passes are left."""
    return spelled(
        "deferred",
        {"p": p, "m": m, "e": e, "f": f},
        """
        QK[m, p] = Q[e, p] * K[e, m]
        GM[p] = max[m] QK[m, p]
        SN[m, p] = exp(QK[m, p] - GM[p])
        SD[p] = SN[m, p]
        SNV[f, p] = SN[m, p] * V[f, m]
        AV[f, p] = SNV[f, p] / SD[p]
        """,
    )


def two_pass(*, p: int, m1: int, m0: int, e: int, f: int) -> Cascade:
    """Numerators by the maximum of their tile, corrected by the global one: 2 passes over the tiles.

    The correction visits each tile's maximum, sum and partial product again, not its scores. Source:
    Choi et al., Recomposing Softmax Layers, IISWC 2022, in the form that FuseMax gives it.
    """
    return spelled(
        "two-pass",
        {"p": p, "m1": m1, "m0": m0, "e": e, "f": f},
        """
        QK[m1, m0, p] = Q[e, p] * K[e, m1, m0]
        LM[m1, p] = max[m0] QK[m1, m0, p]
        SLN[m1, m0, p] = exp(QK[m1, m0, p] - LM[m1, p])
        SLD[m1, p] = SLN[m1, m0, p]
        SLNV[f, m1, p] = SLN[m1, m0, p] * V[f, m1, m0]
        GM[p] = max[m1] LM[m1, p]
        PLM[m1, p] = exp(LM[m1, p] - GM[p])
        SD[p] = SLD[m1, p] * PLM[m1, p]
        SNV[f, p] = SLNV[f, m1, p] * PLM[m1, p]
        AV[f, p] = SNV[f, p] / SD[p]
        """,
    )


def one_pass(*, p: int, m1: int, m0: int, e: int, f: int) -> Cascade:
    """Running maximum, sum and product, rescaled tile by tile: 1 pass over the tiles, 2 within one.

    Source: Dao, FlashAttention-2, 2023, as the cascade of FuseMax.
    """
    return spelled("one-pass", {"p": p, "m1": m1, "m0": m0, "e": e, "f": f}, _one_pass(m1))


def _one_pass(m1: int) -> str:
    return f"""
        RM[0, p] = -inf
        RD[0, p] = 0
        RNV[f, 0, p] = 0
        QK[m1, m0, p] = Q[e, p] * K[e, m1, m0]
        LM[m1, p] = max[m0] QK[m1, m0, p]
        RM[m1 + 1, p] = max(RM[m1, p], LM[m1, p])
        SLN[m1, m0, p] = exp(QK[m1, m0, p] - RM[m1 + 1, p])
        SLD[m1, p] = SLN[m1, m0, p]
        SLNV[f, m1, p] = SLN[m1, m0, p] * V[f, m1, m0]
        PRM[m1, p] = exp(RM[m1, p] - RM[m1 + 1, p])
        SPD[m1, p] = RD[m1, p] * PRM[m1, p]
        RD[m1 + 1, p] = SLD[m1, p] + SPD[m1, p]
        SPNV[f, m1, p] = RNV[f, m1, p] * PRM[m1, p]
        RNV[f, m1 + 1, p] = SLNV[f, m1, p] + SPNV[f, m1, p]
        AV[f, p] = RNV[f, {m1}, p] / RD[{m1}, p]
        """


def causal(*, p: int, m: int, e: int, f: int) -> Cascade:
    """The three-pass cascade with ``CAUSAL`` added to the scores, 0 or -inf: still 3 passes."""
    return spelled(
        "causal",
        {"p": p, "m": m, "e": e, "f": f},
        """
        QK[m, p] = Q[e, p] * K[e, m]
        QKC[m, p] = QK[m, p] + CAUSAL[m, p]
        GM[p] = max[m] QKC[m, p]
        SN[m, p] = exp(QKC[m, p] - GM[p])
        SD[p] = SN[m, p]
        A[m, p] = SN[m, p] / SD[p]
        AV[f, p] = A[m, p] * V[f, m]
        """,
    )


def causal_one_pass(*, p: int, m1: int, m0: int, e: int, f: int) -> Cascade:
    """The one-pass cascade with ``CAUSAL`` added to the scores, 0 or -inf: 1 pass over the tiles.

    Each query must see a key of the first tile, as it does where queries and keys start together.
    """
    text = _one_pass(m1).replace("QK[m1, m0, p]", "QKC[m1, m0, p]")
    text = text.replace(
        "QKC[m1, m0, p] = Q[e, p] * K[e, m1, m0]",
        "QK[m1, m0, p] = Q[e, p] * K[e, m1, m0]\nQKC[m1, m0, p] = QK[m1, m0, p] + CAUSAL[m1, m0, p]",
    )
    return spelled("causal-one-pass", {"p": p, "m1": m1, "m0": m0, "e": e, "f": f}, text)


def grouped_query(*, h: int, g: int, p: int, m: int, e: int, f: int) -> Cascade:
    """Three passes; ``g`` query heads share each of ``h`` heads of keys (Ainslie et al., EMNLP 2023)."""
    return spelled(
        "grouped-query",
        {"h": h, "g": g, "p": p, "m": m, "e": e, "f": f},
        """
        QK[h, g, m, p] = Q[h, g, e, p] * K[h, e, m]
        GM[h, g, p] = max[m] QK[h, g, m, p]
        SN[h, g, m, p] = exp(QK[h, g, m, p] - GM[h, g, p])
        SD[h, g, p] = SN[h, g, m, p]
        A[h, g, m, p] = SN[h, g, m, p] / SD[h, g, p]
        AV[h, g, f, p] = A[h, g, m, p] * V[h, f, m]
        """,
    )


def grouped_query_one_pass(*, h: int, g: int, p: int, m1: int, m0: int, e: int, f: int) -> Cascade:
    """The one-pass cascade; ``g`` query heads share each of ``h`` heads of keys: 1 pass over the tiles."""
    ranks = {"h": h, "g": g, "p": p, "m1": m1, "m0": m0, "e": e, "f": f}
    text = (
        _one_pass(m1)
        .replace("[", "[h, g, ")
        .replace("K[h, g, e", "K[h, e")
        .replace("V[h, g, f, m1, m0", "V[h, f, m1, m0")
    )
    return spelled("grouped-query-one-pass", ranks, text.replace("max[h, g, m0]", "max[m0]"))


def split_k(*, s: int, m1: int, m0: int, e: int, f: int, p: int = 1) -> Cascade:
    """Decode with the keys in ``s`` splits, each one-pass by itself, merged by rescaling: 1 pass over splits.

    Splits do not depend on each other until the merge, which is associative, so that they may run on as
    many cores. Source: Sanovar et al., Lean Attention, 2024.
    """
    local = (
        _one_pass(m1).replace("[", "[s, ").replace("Q[s, e, p]", "Q[e, p]").replace("max[s, m0]", "max[m0]")
    )
    local = local[: local.index("AV[")]
    return spelled(
        "split-k",
        {"s": s, "p": p, "m1": m1, "m0": m0, "e": e, "f": f},
        f"""{local}
        GM[0, p] = -inf
        GD[0, p] = 0
        GNV[f, 0, p] = 0
        GM[s + 1, p] = max(GM[s, p], RM[s, {m1}, p])
        OLD[s, p] = exp(GM[s, p] - GM[s + 1, p])
        NEW[s, p] = exp(RM[s, {m1}, p] - GM[s + 1, p])
        DO[s, p] = GD[s, p] * OLD[s, p]
        DN[s, p] = RD[s, {m1}, p] * NEW[s, p]
        GD[s + 1, p] = DO[s, p] + DN[s, p]
        NVO[f, s, p] = GNV[f, s, p] * OLD[s, p]
        NVN[f, s, p] = RNV[s, f, {m1}, p] * NEW[s, p]
        GNV[f, s + 1, p] = NVO[f, s, p] + NVN[f, s, p]
        AV[f, p] = GNV[f, {s}, p] / GD[{s}, p]
        """,
    )
