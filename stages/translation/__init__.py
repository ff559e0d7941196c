"""Translation between two groups of brains, and what the translation changes.

A CycleGAN (Zhu et al. 2017) learns G: X → Y and F: Y → X from unpaired images of two groups
(young and old, say). What G adds to an image of X says what is different in Y, and where.

    L(G, F, D_X, D_Y) = L_GAN(G, D_Y) + L_GAN(F, D_X)
                      + λ (|F(G(x)) − x|₁ + |G(F(y)) − y|₁) + μ (|G(y) − y|₁ + |F(x) − x|₁)

with least-squares adversarial losses, λ = 10 and μ = 0.5 λ. Such a network matches distributions:
whatever differs between the groups besides what is meant (sex, scanner) it translates as well, so
balance is tested, two controls are trained (two halves of one group; shuffled groups), and mean
differences stand beside a voxelwise t-test of the real images.

Modules: ``people`` draws the groups; ``grids`` and ``intensities`` take images to arrays and
differences back; ``networks``, ``cyclegan``, ``training`` and ``checkpoint`` train; ``evaluation``
measures translations; ``portable`` and ``judging`` ask classifiers that never saw the people;
``maps`` and ``regions`` do the statistics of differences. Steps: ``cohort``, ``train``,
``translate``, ``judge``, ``explain``.

Assumptions: images share a template's grid up to linear registration, with axes along the world's;
intensities are comparable after division by twice the median inside the brain.
"""
