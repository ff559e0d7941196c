"""Synthetic brain slices or volumes from prompts, and what is wrong with them.

A denoising diffusion model learns slices of several groups, each with a prompt. Noise is added as

    z_t = sqrt(a_t) z + sqrt(1 - a_t) e,    e ~ N(0, 1)

and a network that sees z_t, t and the prompt predicts e (or v = sqrt(a_t) e - sqrt(1 - a_t) z).
Three kinds of model: Stable Diffusion from a checkpoint folder, fine-tuned by DreamBooth (Ruiz et
al. 2023), a small model of slices from scratch, and one of whole brains in the latents of a codec
that is trained before it. All go through one loop (``train``) and one sampler (``sampling``);
slices are cut from volumes, real and synthetic ones alike, and judged as slices are.

Modules: ``cohort``, ``slices``, ``volumes`` and ``prompts`` prepare; ``generator`` says what a
model is, ``scratch``, ``latent`` (with ``codec``, ``compress``) and ``checkpoint`` (with
``layout``, ``texts``) make one, ``adapters`` chooses what is trained, ``train`` trains, ``state``
saves, ``provenance`` tells what is real; ``likelihood``, ``judge``, ``verdicts``, ``similarity``,
``memorisation``, ``anatomy`` and ``whole`` audit. Steps: ``prepare``,
``finetune``, ``sample``, ``evaluate``, ``export``.

Assumptions: slices are aligned with one another; a participant is in one group and one part of the
split, with all images. Every number on synthetic slices stands beside the same number on held-out
real slices, since densities and networks err on those too.
"""
