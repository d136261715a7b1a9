"""Text from a MatMul-free language model on the RTL: a prompt in, characters out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import rtl
from archsim import (
    ArchsimError,
    EnergyTable,
    Estimate,
    LoweredHgrn,
    bound_hgrn,
    estimate_hgrn,
    limit_of,
    load_architecture,
    load_energy_table,
    lower_hgrn,
    measured_hgrn,
    simulate,
)
from archsim.cli._language_value import LanguageOutcome, Step
from archsim.cli._progress import Steps
from workloads import (
    Chooser,
    LanguageModel,
    TernaryModel,
    load_language_model,
    most_likely,
    own_text,
    quantise_hgrn,
    read_config,
    sampled,
    ternary_lm_directory,
    write,
)

TERNARY_LM = "ternary-lm"
FAMILY = "hgrn_bit"
Show = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """What to write: a prompt's continuation by a model on a machine."""

    model: str
    """``ternary-lm``, or a folder with config.json and weights.safetensors."""
    arch: str
    prompt: str
    tokens: int
    temperature: float = 0.0
    """0 for the most likely token each time."""
    seed: int = 0
    on_rtl: bool = True


def is_language_model(model: str) -> bool:
    """Whether ``model`` names what this module runs."""
    config = Path(model) / "config.json"
    return model == TERNARY_LM or (
        config.is_file() and read_config(config).fields.get("model_type") == FAMILY
    )


def write_text_on(request: TextRequest, *, steps: Steps, show: Show) -> LanguageOutcome:
    """Write the text of ``request``; ``show`` is given it piece by piece, as the hardware confirms it."""
    arch = load_architecture(request.arch)
    table = load_energy_table(arch.technology)
    known = load_language_model(_folder(request.model))
    prompt = known.encode(request.prompt)
    if not prompt:
        raise ArchsimError("the prompt must have at least one character, not be empty")
    lower_hgrn(known.model.sizes, arch)  # so that a machine that is too small is refused at once
    with steps(f"calibrating {request.model} on text of its own"):
        model = quantise_hgrn(known.model, own_text(known.model))
    lowered = lower_hgrn(model.sizes, arch, model.shifts)
    with steps(f"writing {request.tokens} characters with the integer oracle"):
        made = write(model, prompt, request.tokens, _chooser(request))
    ran = None
    if request.on_rtl:
        ran = _on_rtl(lowered, model, (known, request.prompt, made), steps=steps, show=show)
    else:
        show(request.prompt + known.decode(made))
    show("\n")
    return _outcome(request, known, made, lowered=lowered, table=table, ran=ran)


def _folder(model: str) -> Path:
    return ternary_lm_directory() if model == TERNARY_LM else Path(model)


def _chooser(request: TextRequest) -> Chooser:
    return sampled(request.temperature, request.seed) if request.temperature else most_likely


def _on_rtl(
    lowered: LoweredHgrn,
    model: TernaryModel,
    text: tuple[LanguageModel, str, Sequence[int]],
    *,
    steps: Steps,
    show: Show,
) -> rtl.Text:
    """Run prompt and text on the RTL; each character is shown once the logits that gave it are confirmed."""
    known, prompt, made = text
    arch = lowered.arch
    with steps(f"building the RTL of {arch.name}"):
        design = rtl.build_cached(arch)
    with steps("compiling its simulator (kept for later runs)"):
        rtl.compile_simulator(design)
    read = [*known.encode(prompt), *made[:-1]]
    right: list[bool] = []

    def confirm(position: int, token: rtl.Token) -> None:
        right.append(token.passed)
        if all(right) and position + 1 >= len(prompt):
            show(known.decode([made[position + 1 - len(prompt)]]))

    show(prompt)
    return rtl.run_text(design, lowered, model, read, confirmed=confirm)


def _outcome(
    request: TextRequest,
    known: LanguageModel,
    made: Sequence[int],
    *,
    lowered: LoweredHgrn,
    table: EnergyTable,
    ran: rtl.Text | None,
) -> LanguageOutcome:
    arch = lowered.arch
    step = simulate(arch, lowered.step, program_address=lowered.step_address)
    load = simulate(arch, lowered.load, program_address=lowered.load_address)
    simulated = measured_hgrn(lowered, table, step)
    measured: Estimate | None = None
    if ran is not None:
        measured = measured_hgrn(lowered, table, step, ran.tokens[-1].result.counters)
    return LanguageOutcome(
        model=request.model,
        arch=arch.name,
        clock_mhz=arch.clock_mhz,
        prompt=request.prompt,
        text=known.decode(list(_confirmed(made, ran, len(request.prompt)))),
        vocabulary=known.model.sizes.vocab,
        bound=bound_hgrn(known.model.sizes, arch, table),
        estimate=estimate_hgrn(lowered, table),
        simulated=simulated,
        measured=measured,
        limit=limit_of(simulated),
        load_cycles=load.cycles if ran is None else ran.load.cycles,
        load_differences=() if ran is None else _words(ran.load_counters),
        steps=() if ran is None else _steps(request.prompt + known.decode(list(made)), ran),
        simulated_hz=0.0 if ran is None else ran.tokens[-1].result.simulated_hz,
    )


def _confirmed(made: Sequence[int], ran: rtl.Text | None, prompt: int) -> Sequence[int]:
    """The tokens whose logits, and all before them, the hardware confirmed."""
    if ran is None:
        return made
    good = len(list(takewhile(lambda token: token.passed, ran.tokens)))
    return made[: max(0, good - prompt + 1)]


def _words(counters: dict[str, tuple[int, int]]) -> tuple[str, ...]:
    return tuple(f"{name}: simulated {s}, hardware {h}" for name, (s, h) in counters.items())


def _steps(text: str, ran: rtl.Text) -> tuple[Step, ...]:
    return tuple(
        Step(
            character=character,
            rtl_cycles=token.result.cycles,
            wrong_logits=token.wrong,
            counters=token.counters,
        )
        for character, token in zip(text, ran.tokens, strict=False)
    )
