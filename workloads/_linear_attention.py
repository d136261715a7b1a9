"""Attention without a softmax, as cascades: a state that is carried along the tokens.

Ranks: t token (c chunks of i tokens, j the token that is looked at within a chunk), e feature of queries
and keys, f feature of values; in the selective scan d channel and n state. Each is 1 pass over the tokens.
"""

from __future__ import annotations

from workloads._attention import spelled
from workloads._einsum import Cascade


def retnet(*, t: int, e: int, f: int) -> Cascade:
    """Retention as a recurrence: the state decays by the head's ``GAMMA`` and gains ``K V``; 1 pass.

    Source: Sun et al., Retentive Network, 2023, equation 6, for one head.
    """
    return spelled(
        "retnet",
        {"t": t, "e": e, "f": f},
        """
        S[0, e, f] = 0
        KV[t, e, f] = K[t, e] * V[t, f]
        DS[t, e, f] = GAMMA[] * S[t, e, f]
        S[t + 1, e, f] = DS[t, e, f] + KV[t, e, f]
        O[t, f] = Q[t, e] * S[t + 1, e, f]
        """,
    )


def retnet_chunked(*, c: int, i: int, e: int, f: int) -> Cascade:
    """Retention by chunks: products within a chunk, a recurrence from chunk to chunk; 1 pass over chunks.

    With the decay g and chunks of I tokens: ``D[i, j]`` is g^(i - j) for j up to i and 0 above, ``XI[i]``
    is g^(i + 1), ``ZETA[j]`` is g^(I - 1 - j), ``GAMMA`` is g^I. Source: as :func:`retnet`, equation 7.
    """
    return spelled(
        "retnet-chunked",
        {"c": c, "i": i, "j": i, "e": e, "f": f},
        """
        S[0, e, f] = 0
        QK[c, i, j] = Q[c, i, e] * K[c, j, e]
        QKD[c, i, j] = QK[c, i, j] * D[i, j]
        INNER[c, i, f] = QKD[c, i, j] * V[c, j, f]
        VZ[c, j, f] = V[c, j, f] * ZETA[j]
        KV[c, e, f] = K[c, j, e] * VZ[c, j, f]
        DS[c, e, f] = GAMMA[] * S[c, e, f]
        S[c + 1, e, f] = DS[c, e, f] + KV[c, e, f]
        QX[c, i, e] = Q[c, i, e] * XI[i]
        CROSS[c, i, f] = QX[c, i, e] * S[c, e, f]
        O[c, i, f] = INNER[c, i, f] + CROSS[c, i, f]
        """,
    )


def gla(*, t: int, e: int, f: int) -> Cascade:
    """Gated linear attention: each row of the state decays by the token's own gate ``A``; 1 pass.

    Source: Yang et al., Gated Linear Attention Transformers, ICML 2024.
    """
    return spelled(
        "gla",
        {"t": t, "e": e, "f": f},
        """
        S[0, e, f] = 0
        KV[t, e, f] = K[t, e] * V[t, f]
        AS[t, e, f] = A[t, e] * S[t, e, f]
        S[t + 1, e, f] = AS[t, e, f] + KV[t, e, f]
        O[t, f] = Q[t, e] * S[t + 1, e, f]
        """,
    )


def gla_chunked(*, c: int, i: int, e: int, f: int) -> Cascade:
    """Gated linear attention by chunks; 1 pass over the chunks, 2 over a chunk's tokens.

    ``B`` is the product of the gates from the chunk's start, ``LOWER[i, j]`` 1 for j up to i and 0 above.
    Keys divided by ``B`` grow as gates shrink, as in the source, that of :func:`gla`.
    """
    return spelled(
        "gla-chunked",
        {"c": c, "i": i, "j": i, "e": e, "f": f},
        f"""
        S[0, e, f] = 0
        B[c, 0, e] = 1
        B[c, i + 1, e] = B[c, i, e] * A[c, i, e]
        QB[c, i, e] = Q[c, i, e] * B[c, i + 1, e]
        KB[c, j, e] = K[c, j, e] / B[c, j + 1, e]
        QK[c, i, j] = QB[c, i, e] * KB[c, j, e]
        QKL[c, i, j] = QK[c, i, j] * LOWER[i, j]
        INNER[c, i, f] = QKL[c, i, j] * V[c, j, f]
        KE[c, j, e] = KB[c, j, e] * B[c, {i}, e]
        KV[c, e, f] = KE[c, j, e] * V[c, j, f]
        BS[c, e, f] = B[c, {i}, e] * S[c, e, f]
        S[c + 1, e, f] = BS[c, e, f] + KV[c, e, f]
        CROSS[c, i, f] = QB[c, i, e] * S[c, e, f]
        O[c, i, f] = INNER[c, i, f] + CROSS[c, i, f]
        """,
    )


def deltanet(*, t: int, e: int, f: int) -> Cascade:
    """The delta rule: the state forgets what it holds for the key before it learns the new value.

    1 pass over the tokens; 2 over a token's features e, since what the state holds for the key is known
    only after all of its rows were read. Source: Schlag et al., ICML 2021; Yang et al.,
    Parallelizing Linear Transformers with the Delta Rule, NeurIPS 2024.
    """
    return spelled(
        "deltanet",
        {"t": t, "e": e, "f": f},
        """
        S[0, e, f] = 0
        OLD[t, f] = K[t, e] * S[t, e, f]
        ERR[t, f] = V[t, f] - OLD[t, f]
        U[t, f] = BETA[t] * ERR[t, f]
        KU[t, e, f] = K[t, e] * U[t, f]
        S[t + 1, e, f] = S[t, e, f] + KU[t, e, f]
        O[t, f] = Q[t, e] * S[t + 1, e, f]
        """,
    )


def mamba(*, t: int, d: int, n: int) -> Cascade:
    """Mamba's selective scan: a diagonal state of ``n`` for each of ``d`` channels; 1 pass.

    ``A`` (negative) and ``SKIP`` are learned; ``DT``, ``B`` and ``C`` depend on the token. Source: Gu and
    Dao, Mamba, 2023, with the discretisation of its code: exact for A, Euler for B.
    """
    return spelled(
        "mamba",
        {"t": t, "d": d, "n": n},
        """
        H[0, d, n] = 0
        DA[t, d, n] = exp(DT[t, d] * A[d, n])
        DX[t, d] = X[t, d] * DT[t, d]
        BX[t, d, n] = DX[t, d] * B[t, n]
        AH[t, d, n] = DA[t, d, n] * H[t, d, n]
        H[t + 1, d, n] = AH[t, d, n] + BX[t, d, n]
        CH[t, d] = H[t + 1, d, n] * C[t, n]
        XS[t, d] = X[t, d] * SKIP[d]
        Y[t, d] = CH[t, d] + XS[t, d]
        """,
    )
