"""What follows a model's last block: final norm, language-model head, classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from workloads._block import Block, Run, constants, norm_fragment, part
from workloads._einsum import Access, Index
from workloads._model import Part
from workloads._transformer import Fragment, add, cascade, layernorm, linear, product, tensor, unary

Head = Literal["none", "lm", "masked_lm", "classifier", "pooled_classifier"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What follows the last block."""

    head: Head
    outs: int
    """Vocabulary, or classes."""
    bias: bool = False
    final_norm: bool = True
    projected: int | None = None
    """Size that the hidden state is projected to before the head, where it differs."""
    token: int = 0
    """Which token a classifier reads."""
    scaled: bool = False
    """Whether the head's input is scaled (T5 with tied embeddings)."""


def end(block: Block, run: Run, ending: Ending, *, name: str = "head") -> tuple[Part, ...]:
    """The final norm and the head, from the last block's output ``Z``; no part if there is neither."""
    made: Fragment = ()
    source = "Z"
    if ending.final_norm:
        made, source = norm_fragment(block, "ZN", "Z", rows=run.rows), "ZN"
    if ending.head != "none":
        made += _head_fragment(block, run, ending, source)
    if not made:
        return ()
    ranks = {"b": run.batch, "p": run.queries, "d": block.hidden, "v": ending.outs, "u": block.hidden}
    ranks["w"] = ending.projected or 1
    fixed = constants(block) | {"HS": block.hidden**-0.5}
    return (part(cascade(name, ranks, made), inputs=frozenset({"Z"}), constants=fixed),)


def _head_fragment(block: Block, run: Run, ending: Ending, source: str) -> Fragment:
    match ending.head:
        case "lm":
            return _lm_head(run, ending, source)
        case "masked_lm":
            return _masked_lm_head(block, run, ending, source)
        case "classifier" | "pooled_classifier":
            return _classifier(run, ending, source, pooled=ending.head == "pooled_classifier")
        case "none":
            return ()
    assert_never(ending.head)


def _lm_head(run: Run, ending: Ending, source: str) -> Fragment:
    made: Fragment = ()
    rows, ins = run.rows, "d"
    if ending.scaled:
        made = (product(tensor("ZS", rows + "d"), tensor(source, rows + "d"), tensor("HS")),)
        source = "ZS"
    if ending.projected:
        made += linear("PO", source, rows=rows, ins="d", outs="w", bias=False)
        source, ins = "PO", "w"
    return made + linear("LG", source, rows=rows, ins=ins, outs="v", bias=ending.bias)


def _masked_lm_head(block: Block, run: Run, ending: Ending, source: str) -> Fragment:
    """Transform (u is its hidden rank), activation, norm, vocabulary."""
    rows = run.rows
    dense = linear("T", source, rows=rows, ins="d", outs="u", bias=True)
    activated = unary(tensor("TA", rows + "u"), dense[-1].output, block.activation)
    normed = layernorm("TN", "TA", rows=rows, over="u")
    return (*dense, activated, *normed, *linear("LG", "TN", rows=rows, ins="u", outs="v", bias=ending.bias))


def _classifier(run: Run, ending: Ending, source: str, *, pooled: bool) -> Fragment:
    """Classes of one token, for BERT through the pooler."""
    position = Index((), ending.token)
    lead = tensor(source, run.lead).indices
    picked = Access(source, (*lead, position, Index((("d", 1),))))
    made: Fragment = ()
    rank = "d"
    if pooled:
        dense = product(tensor("PL", run.lead + "u"), picked, tensor("WPL", "du"))
        biased = add(tensor("PLB", run.lead + "u"), dense.output, tensor("BPL", "u"))
        made = (dense, biased, unary(tensor("PT", run.lead + "u"), biased.output, "tanh"))
        picked, rank = made[-1].output, "u"
    scores = product(tensor("LG", run.lead + "v"), picked, tensor("WLG", rank + "v"))
    if not ending.bias:
        return (*made, scores)
    return (*made, scores, add(tensor("LGB", run.lead + "v"), scores.output, tensor("BLG", "v")))
