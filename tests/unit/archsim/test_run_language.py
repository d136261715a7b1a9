"""``archsim run`` of a language model and its estimates: words for wrong input, and without hardware."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from archsim import load_architecture, load_energy_table, lower_hgrn, measured_hgrn, simulate
from archsim.cli import main
from archsim.cli._language import is_language_model
from archsim.cli._language_value import LanguageOutcome, Step
from archsim.cli._run_language import document, figures
from tests.unit.archsim.test_lower_hgrn import MACHINE, SMALL
from workloads import matmul_free

ON_CHIP = ("ternary-lm", "--arch", "ternary-ecp5")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (ON_CHIP, "Error: give ternary-lm a text to go on from by --prompt"),
        ((*ON_CHIP, "--prompt", "a", "--text", "b"), "Error: --text is for an encoder, not for ternary-lm"),
        (
            (*ON_CHIP, "--prompt", "a", "--page", "x.md"),
            "Error: --page is for an encoder, not for ternary-lm",
        ),
        (
            (*ON_CHIP, "--prompt", "a", "--seed", "3"),
            "Error: --seed is for drawing tokens, which --temperature asks for",
        ),
        (
            ("minilm", "--arch", "edge-16x16", "--prompt", "a"),
            "Error: --prompt is for a language model, not for minilm",
        ),
        (
            ("minilm", "--arch", "edge-16x16", "--text", "a", "--no-rtl"),
            "Error: --no-rtl is for a language model, not for minilm",
        ),
        ((*ON_CHIP, "--prompt", ""), "archsim: the prompt must have at least one character, not be empty"),
        (
            ("ternary-lm", "--arch", "edge-16x16", "--prompt", "a"),
            (
                "archsim: edge-16x16 must have a ternary array and a gated vector unit for a MatMul-free "
                "model, not array.kind dense and vector.gated false"
            ),
        ),
    ],
)
def test_wrong_input_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert said(capsys, "run", *arguments) == message


def test_a_character_that_the_model_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, "run", *ON_CHIP, "--prompt", "ab€")
    assert line.startswith("archsim: text must be of characters that the model knows, ")
    assert line.endswith(", not '€'")


def test_a_text_without_hardware_is_the_oracles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "run.json"
    arguments = [*ON_CHIP, "--prompt", "And he", "--tokens", "5", "--no-rtl", "--json", str(target)]
    assert main(["run", *arguments]) == 0
    found, shown = json.loads(target.read_text()), capsys.readouterr().out
    assert shown.startswith("And he" + found["text"] + "\n")
    assert (len(found["text"]), found["tokens"], found["passed"]) == (5, [], True)
    assert found["bound_cycles"] <= found["estimated_cycles"] <= found["simulated_cycles"]
    assert found["tokens_per_s"] == pytest.approx(80e6 / found["simulated_cycles"])


def test_a_seed_writes_the_same_text_again(tmp_path: Path) -> None:
    texts = []
    for seed in ("1", "1", "2"):
        target = tmp_path / "run.json"
        drawn = ["--temperature", "1.5", "--seed", seed, "--tokens", "12", "--no-rtl"]
        assert main(["run", *ON_CHIP, "--prompt", "A", *drawn, "--json", str(target)]) == 0
        texts.append(json.loads(target.read_text())["text"])
    assert texts[0] == texts[1] != texts[2]


def outcome(*steps: Step) -> LanguageOutcome:
    lowered = lower_hgrn(SMALL, MACHINE)
    run = simulate(MACHINE, lowered.step, program_address=lowered.step_address)
    one = measured_hgrn(lowered, load_energy_table("45nm"), run)
    return LanguageOutcome(
        model="m",
        arch="tiny",
        clock_mhz=100,
        prompt="a",
        text="b",
        vocabulary=21,
        bound=one,
        estimate=one,
        simulated=one,
        measured=one if steps else None,
        limit="the array",
        load_cycles=9,
        steps=steps,
    )


GOOD = Step(character="a", rtl_cycles=7, wrong_logits=0, counters={})


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (replace(GOOD, wrong_logits=1), "token 1 ('a'): 1 logits differ"),
        (replace(GOOD, counters={"cycles": (7, 8)}), "token 1 ('a'): cycles: simulated 7, hardware 8"),
    ],
)
def test_one_bit_or_cycle_is_a_failure(bad: Step, words: str) -> None:
    assert outcome().passed
    assert outcome(GOOD, GOOD).passed
    found = outcome(GOOD, bad)
    assert not found.passed
    assert found.differences == (words,)
    assert document(found)["differences"] == [words]
    assert figures(found)["of these with every bit and cycle as predicted"] == "1"
    assert not replace(outcome(GOOD), load_differences=("cycles: simulated 1, hardware 2",)).passed


def test_what_is_a_language_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    assert is_language_model("ternary-lm")
    assert not is_language_model("minilm")
    assert not is_language_model(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "hgrn_bit"}', encoding="utf-8")
    assert is_language_model(str(tmp_path))


def test_a_prefill_is_a_step_a_token(tmp_path: Path) -> None:
    cycles = {}
    for phase, seq in (("decode", "9"), ("prefill", "9")):
        target = tmp_path / "e.json"
        arguments = [*ON_CHIP, "--phase", phase, "--seq", seq, "--json", str(target)]
        assert main(["simulate", *arguments]) == 0
        cycles[phase] = json.loads(target.read_text())["cycles"]
    sizes = matmul_free("ternary-lm")
    assert sizes is not None
    arch = load_architecture("ternary-ecp5")
    lowered = lower_hgrn(sizes, arch)
    one = simulate(arch, lowered.step, program_address=lowered.step_address).cycles
    assert cycles == {"decode": one, "prefill": 9 * one}


@pytest.mark.parametrize("options", [(), ("--bound",), ("--distance",)])
def test_estimates_are_of_the_ternary_programs(tmp_path: Path, options: tuple[str, ...]) -> None:
    target = tmp_path / "e.json"
    assert main(["estimate", *ON_CHIP, "--phase", "decode", *options, "--json", str(target)]) == 0
    found = json.loads(target.read_text())
    sizes = matmul_free("ternary-lm")
    assert sizes is not None
    assert found["macs"] == sizes.ternary
    assert found["cycles"] >= sizes.ternary / 128


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("estimate", "bert-base", "--arch", "ternary-ecp5"),
            (
                "archsim: MODEL must be a MatMul-free language model on ternary-ecp5, whose array is "
                "ternary, not 'bert-base'"
            ),
        ),
        (
            ("simulate", *ON_CHIP, "--waits"),
            "archsim: --waits must be left out on ternary-ecp5, whose array is ternary",
        ),
        (
            ("map", "ternary-lm", "--arch", "ternary-ecp5"),
            (
                "archsim: ternary-ecp5 must have a dense array for this command, not a ternary one: "
                "archsim estimate, simulate and run take it"
            ),
        ),
    ],
)
def test_other_models_and_commands_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert said(capsys, *arguments) == message
