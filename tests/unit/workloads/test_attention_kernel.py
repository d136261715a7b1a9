"""Attention recognised as one kernel in all its forms, and the integers of a whole cascade."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from workloads import (
    Cascade,
    WorkloadError,
    attend,
    attention_of,
    evaluate,
    evaluate_quantised,
    inputs,
    library_cascade,
    parse,
    quantise_attention,
    quantise_tensor,
    tensor_shapes,
)

FORMS = ("naive", "three-pass", "deferred", "two-pass", "one-pass")
GROUPED = ("grouped-query", "grouped-query-one-pass")
OTHERS = ("causal", "causal-one-pass", "split-k", "retnet", "gla", "deltanet", "mamba")
SELF = """\
cascade own
ranks h=2, t=5, s=7, c=3, d=3

B[h, t, s] = X[t, h, c] * Y[h, c, s]
C[h, t, s] = B[h, t, s] * ROOT[]
D[h, t] = max[s] C[h, t, s]
E[h, t, s] = exp(C[h, t, s] - D[h, t])
F[h, t] = E[h, t, s]
G[h, t, s] = E[h, t, s] / F[h, t]
H[h, t, d] = G[h, t, s] * Z[s, h, d]
"""


def samples_of(cascade: Cascade, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """One float sample of each input."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=tensor_shapes(cascade)[name]) for name in inputs(cascade)}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_library(form: str) -> None:
    found = attention_of(library_cascade(f"attention:{form}", seq=32))
    assert [str(found.queries), str(found.output)] == ["Q[e, p]", "AV[f, p]"]
    assert found.keys.tensor == "K"
    assert found.values.tensor == "V"
    assert found.tokens in {("m",), ("m1", "m0")}
    assert (found.batch, found.group, found.positions) == ((), (), "p")
    assert (found.features, found.columns, found.scales) == ("e", "f", ())


@pytest.mark.parametrize("form", GROUPED)
def test_heads_that_share_keys(form: str) -> None:
    found = attention_of(library_cascade(f"attention:{form}", seq=32))
    assert (found.batch, found.group, found.positions) == (("h",), ("g",), "p")


@pytest.mark.parametrize("form", FORMS + GROUPED)
def test_names_do_not_matter(form: str) -> None:
    cascade = library_cascade(f"attention:{form}", seq=32)
    text = re.sub(r"\b(Q|K|V|AV|p|m|m0|m1|e|f|h|g)\b(?=[\[\]=,+ ])", r"\1x", str(cascade))
    named = attention_of(parse(text))
    assert [a.tensor for a in (named.queries, named.keys, named.values)] == ["Qx", "Kx", "Vx"]
    assert named.name == "AVx"
    assert named.positions == "px"


def test_an_attention_of_ones_own() -> None:
    found = attention_of(parse(SELF))
    assert [str(a) for a in (found.queries, found.keys)] == ["X[t, h, c]", "Y[h, c, s]"]
    assert [str(a) for a in (found.values, found.output)] == ["Z[s, h, d]", "H[h, t, d]"]
    assert (found.batch, found.positions, found.tokens) == (("h",), "t", ("s",))
    assert found.scales == ("ROOT",)


@pytest.mark.parametrize("form", OTHERS)
def test_what_is_no_plain_attention(form: str) -> None:
    cascade = library_cascade(f"attention:{form}", seq=32)
    message = f"cascade {cascade.name} must be one attention, softmax(Q K) V without a mask and nothing else"
    with pytest.raises(WorkloadError, match=f"^{re.escape(message)}, to run as one$"):
        attention_of(cascade)


def test_a_cascade_that_does_more_is_none() -> None:
    with pytest.raises(WorkloadError, match=r"^cascade own must be one attention"):
        attention_of(parse(SELF + "I[h, t, d] = H[h, t, d] * S[d]\n"))
    with pytest.raises(WorkloadError, match=r"^cascade own must be one attention"):
        attention_of(parse("\n".join(SELF.splitlines()[:-1])))


def test_all_forms_have_the_same_bits() -> None:
    cascades = [library_cascade(f"attention:{form}", seq=32) for form in FORMS]
    given = samples_of(cascades[0])
    results = []
    for cascade in cascades:
        own = {name: given[name].reshape(tensor_shapes(cascade)[name]) for name in given}
        made = quantise_attention(cascade, {}, [own], tile=8)
        integers = {name: quantise_tensor(values, made.scales[name]) for name, values in own.items()}
        results.append(evaluate_quantised(made, integers)["AV"])
    assert all((result == results[0]).all() for result in results)


def test_integers_are_near_the_floats_in_any_layout() -> None:
    cascade, root = parse(SELF), {"ROOT": np.array(0.6)}
    given = {name: values for name, values in samples_of(cascade).items() if name != "ROOT"}
    made = quantise_attention(cascade, root, [given], tile=4)
    integers = {name: quantise_tensor(values, made.scales[name]) for name, values in given.items()}
    found = evaluate_quantised(made, integers)
    assert list(found) == ["H"]
    real = {name: made.unit(name) * values for name, values in integers.items()}
    exact = evaluate(cascade, real | root)["H"] / made.scales["H"]
    assert np.abs(found["H"] - exact).max() <= 1


def test_grouped_heads_are_heads_of_their_own() -> None:
    cascade = library_cascade("attention:grouped-query", seq=8)
    given = samples_of(cascade)
    made = quantise_attention(cascade, {}, [given], tile=4)
    integers = {name: quantise_tensor(values, made.scales[name]) for name, values in given.items()}
    found = evaluate_quantised(made, integers)["AV"]
    assert made.attention is not None
    q, k, v = (integers[name] for name in "QKV")
    for head in range(q.shape[0]):
        for group in range(q.shape[1]):
            one = attend(q[head, group][None], k[head][None], v[head][None], made.attention.scales, tile=4)
            assert (found[head, group] == one[0]).all()


def test_what_cannot_be_quantised() -> None:
    cascade = library_cascade("attention:one-pass", seq=8)
    with pytest.raises(WorkloadError, match=r"^samples to calibrate on must be at least one, not none$"):
        quantise_attention(cascade, {}, [], tile=4)
    with pytest.raises(WorkloadError, match=r"^weights of an attention must be scales of its scores, not K$"):
        quantise_attention(cascade, {"K": np.ones(1)}, [samples_of(cascade)], tile=4)
    made = quantise_attention(cascade, {}, [samples_of(cascade)], tile=4)
    with pytest.raises(WorkloadError, match=r"^tensors must include 'Q', not only K$"):
        evaluate_quantised(made, {"K": np.zeros((64, 1, 8), np.int8)})


def test_a_tensor_of_zeros_has_a_unit() -> None:
    cascade = library_cascade("attention:one-pass", seq=8)
    given = samples_of(cascade) | {"V": np.zeros(tensor_shapes(cascade)["V"])}
    made = quantise_attention(cascade, {}, [given], tile=4)
    assert made.scales["V"] == made.scales["AV"] == 1 / 127
