"""Make a cohort comparable, draw it honestly, and say what its label could leak through.

The steps feed one another through files of this stage's dataset:

``fingerprint`` (group)
    Headers of all images → ``plans/plan.json`` (target grids, fitted intensity landmarks) and
    ``plans/fingerprint.tsv``, one row per image: ``class``, grid, scanner, ``excluded`` (why, or
    n/a), ``stratum``, ``split`` (train or test), ``fold`` (0 … k-1; n/a in the held-out test) and
    ``cohort_<arm>`` (yes or no). Later steps and stages read this table. Split and fold belong to
    the participant, whatever the arm: no arm can learn on another arm's test, nor one session on
    another's.
``apply`` (participant)
    One image per arm, ``desc-<arm>_T1w``, for those drawn into that arm; their split, fold and
    cohorts in participants.tsv.
``combat`` (group)
    Volumes of several sites on one scale, fitted on ``split: train`` alone.
``audit`` (group)
    What a classifier of the label could read instead of the brain, per arm, and a verdict. It reads
    the preprocessed images, so it can be had before ``apply`` has written anything.

An **arm** is a way to make images comparable: whom to draw and how to place them
(``cohort.ARMS``). The split comes first, then what is fitted, then what is applied.

Assumptions: images and masks share a grid; slices are counted on one axis (the one whose length
varies most, unless told); sampling is of participants, whose first image that is not excluded
stands for them.

References: Johnson et al. 2007, Biostatistics 8:118 and Fortin et al. 2018, NeuroImage 167:104
(ComBat); Nyúl et al. 2000, IEEE TMI 19:143; Shinohara et al. 2014, NeuroImage Clin 6:9
(WhiteStripe); Schuirmann 1987, J Pharmacokinet Biopharm 15:657 (two one-sided tests).
"""
