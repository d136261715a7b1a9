"""Products apart from their functions: the same values, the same kernels, the same work."""

from __future__ import annotations

import numpy as np

from workloads import (
    Product,
    Requantise,
    evaluate,
    evaluate_quantised,
    kernels,
    macs,
    parse,
    quantise_cascade,
    quantise_tensor,
    split_functions,
)

TOGETHER = "cascade one\nranks m=4, k=5, n=3\n\nY[m, n] = gelu(X[m, k] * W[k, n])\n"
APART = (
    "cascade one\nranks m=4, k=5, n=3\n\n"
    "Y_product[m, n] = X[m, k] * W[k, n]\nY[m, n] = gelu(Y_product[m, n])\n"
)


def test_a_product_and_its_function_become_two_einsums() -> None:
    assert split_functions(parse(TOGETHER)) == parse(APART)
    assert split_functions(parse(APART)) == parse(APART)


def test_a_product_with_a_function_is_a_product() -> None:
    (kernel,) = kernels(parse(TOGETHER))
    assert isinstance(kernel, Product)
    assert kernel.epilogue == Requantise(function="gelu")
    assert macs(parse(TOGETHER)) == 4 * 5 * 3


def test_both_forms_quantise_to_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    weights, samples = {"W": rng.normal(size=(5, 3))}, [{"X": rng.normal(size=(4, 5))}]
    made = [quantise_cascade(parse(text), weights, samples) for text in (TOGETHER, APART)]
    inputs = {"X": quantise_tensor(samples[0]["X"], made[0].scales["X"])}
    together, apart = (evaluate_quantised(one, inputs)["Y"] for one in made)
    np.testing.assert_array_equal(together, apart)
    wanted = evaluate(parse(TOGETHER), {**weights, **samples[0]})["Y"]
    # Half a step of each operand in each term, of the argument and of the result; gelu's slope is under 1.13.
    x, w = np.abs(samples[0]["X"]), np.abs(weights["W"])
    step_x, step_w = made[0].scales["X"] / 2, w.max(axis=0) / 127 / 2
    terms = (x + step_x) @ (w + step_w) - x @ w
    argument = np.abs(samples[0]["X"] @ weights["W"]).max() / 127
    bound = 1.13 * (terms + argument) + made[0].scales["Y"]
    assert (np.abs(together * made[0].scales["Y"] - wanted) <= bound).all()
