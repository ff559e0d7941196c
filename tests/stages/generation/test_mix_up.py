"""Prompts that share their tokens mix groups up, and the tool says so; a model from scratch.

A reduced version of ``tests/benchmarks/generation_phantoms.py``. Both models have the same budget
and are judged by the same instruments, made from other people than either was trained on.
"""

from typing import Any

import numpy as np
import pytest
import torch

from stages.generation.adapters import public_name, put_weights
from stages.generation.findings import describe_findings
from stages.generation.instruments import Instruments, Slices, make_instruments
from stages.generation.prompts import audit_prompts, build_prompts, imbalance_warning
from stages.generation.sampling import sample
from stages.generation.scratch import build_scratch, embed_prompts, split_words
from stages.generation.slices import to_pixels, to_tensor
from stages.generation.train import encode_material, train
from stages.generation.verdicts import HELD_OUT, SYNTHETIC, contrast_rows
from tests.stages.generation import toy
from tests.stages.generation.settings import settings

pytestmark = pytest.mark.slow

GROUPS = ["AD", "CN"]
SIZE, STEPS, IMAGES = 32, 240, 16
ARMS = {
    "disjoint": ({"AD": 42, "CN": 42}, {"AD": "shrunken", "CN": "youthful"}, "{word}", True),
    "shared": ({"AD": 36, "CN": 48}, {"AD": "AD", "CN": "CN"}, "{word}, a MRI brain, ADNI2", False),
}


def draw_real(n: int, seed: int) -> Slices:
    slices, groups = toy.draw_people({"AD": n, "CN": n}, seed)
    return Slices(slices, groups, np.array([f"sub-{seed}x{i}" for i in range(2 * n)]))


def run_arm(arm: str, tools: Instruments, accuracy: float) -> dict[str, Any]:
    """Train and sample; give the share called as asked, rows of contrasts, and the verdict."""
    counts, words, template, balance = ARMS[arm]
    lines = build_prompts({"full": template}, words)
    prompts = [line["prompt"] for line in lines]
    slices, groups = toy.draw_people(counts, 0)
    generator = build_scratch(size=SIZE, width=16, seed=0)
    numbers = torch.tensor([GROUPS.index(g) for g in groups])
    material = encode_material(generator, to_tensor(slices, SIZE), numbers)
    weights = generator.named_parameters()
    chosen = settings(
        steps=STEPS,
        batch_size=16,
        learning_rate=1e-3,
        warmup=20,
        min_snr=5.0,
        drop_prompt=0.1,
        ema_decay=0.97,
        balance=balance,
    )
    means, _ = train(generator, weights, material, prompts, chosen, seed=0)
    put_weights(weights, {public_name(name): value for name, value in means.items()})
    judged = []
    for prompt, group in zip(prompts, GROUPS, strict=True):
        made = sample(
            generator, [prompt] * IMAGES, range(IMAGES), steps=12, guidance=2.0, batch=IMAGES
        )
        judged.append(tools.judge_slices(to_pixels(made), SYNTHETIC, "full", group))
    real = draw_real(20, 101)
    judged += [tools.judge_slices(real.of(g), HELD_OUT, "", g) for g in GROUPS]
    rows = contrast_rows(judged, GROUPS, redraws=200, seed=0)
    (pair,) = audit_prompts(
        lines, split_words, lambda text: embed_prompts([text])[0].double().numpy()
    )
    warnings = {"full: AD and CN": pair["warning"]} if pair["warning"] else {}
    told = describe_findings(
        [],
        rows,
        [],
        {"JudgeBalancedAccuracyHeldOut": accuracy},
        {"Warnings": warnings, "TrainingSlices": counts, "Imbalance": imbalance_warning(counts)},
        {"full": {"Settings": {"balance": balance}, "Models": "joint", "Provenance": "test"}},
    )
    right = [j.log_probability.argmax(1) == GROUPS.index(j.group) for j in judged[:2]]
    share = next(row["share_of_real"] for row in rows if row["slices"] == SYNTHETIC)
    return {"right": np.mean(right), "share": share, "warnings": told["Warnings"]}


@pytest.fixture(scope="module")
def arms() -> dict[str, dict[str, Any]]:
    tools, about = make_instruments(draw_real(40, 100), draw_real(20, 101), GROUPS, 40, 0, 12, 0)
    accuracy = about["JudgeBalancedAccuracyHeldOut"]
    assert accuracy >= 0.9
    return {arm: run_arm(arm, tools, accuracy) for arm in ARMS}


def test_disjoint_words_give_the_group_asked_for(arms):
    assert arms["disjoint"]["right"] >= 0.8
    assert arms["disjoint"]["warnings"] == []


def test_shared_words_give_less_contrast_and_the_warning_names_why(arms):
    assert arms["shared"]["share"] < 0.8 * arms["disjoint"]["share"]
    (warning,) = arms["shared"]["warnings"]
    assert "Mix-up. full, AD and CN" in warning
    assert "shared tokens: only 1 of 7 differ" in warning
    assert "imbalance: 36 AD to 48 CN, drawn as they are" in warning
