"""Synthetic brain slices from prompts, and what is wrong with them.

A denoising diffusion model learns slices of several groups, each with a prompt. Noise is added as

    z_t = sqrt(a_t) z + sqrt(1 - a_t) e,    e ~ N(0, 1)

and a network that sees z_t, t and the prompt predicts e (or v = sqrt(a_t) e - sqrt(1 - a_t) z).
Two kinds of model: Stable Diffusion from a checkpoint folder, fine-tuned by DreamBooth (Ruiz et al.
2023), and a small model from scratch. Both go through one loop (``train``) and one sampler
(``sampling``).

Modules: ``cohort``, ``slices`` and ``prompts`` prepare; ``generator`` says what a model is,
``scratch`` and ``checkpoint`` (with ``layout``, ``texts``) make one, ``adapters`` chooses what is
trained, ``train`` trains, ``state`` saves, ``provenance`` tells what is real; ``likelihood``,
``judge``, ``verdicts``, ``similarity``, ``memorisation`` and ``anatomy`` audit. Steps: ``prepare``,
``finetune``, ``sample``, ``evaluate``, ``export``.

Assumptions: slices are aligned with one another; a participant is in one group and one part of the
split, with all images. Every number on synthetic slices stands beside the same number on held-out
real slices, since densities and networks err on those too.
"""
