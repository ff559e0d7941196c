"""Classifiers of brain images: networks and a linear model to beat, on the same folds.

A target is a column of participants.tsv, or classes made of it. Each arm's images are read once
onto a coarser grid (``prepare``), networks are trained with one fold held out (``train``), folds
are joined into one program that runs anywhere (``combine``), new images are judged by the model
files alone (``predict``), maps say which voxels a judgement rests on (``explain``), and intervals,
tests and baselines say what the numbers are worth (``evaluate``).

Modules: ``targets`` and ``cohort`` say who is what and in which part; ``images`` reads and
conforms; ``networks``, ``program`` and ``penalties`` are the models; ``training``, ``augment``,
``checkpoint`` and ``linear`` fit them; ``calibration`` and ``portable`` finish and store them;
``statistics``, ``comparisons`` and ``explanation`` judge and explain.

Assumptions: one label per participant; whoever is in two sessions is in one part; a scan's voxels
are worth the same wherever the head lay (each image is standardised inside the graph).
"""
