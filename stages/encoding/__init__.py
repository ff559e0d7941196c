"""Encoding models: from what was on the screen to the response of every voxel.

Features of movie frames (VGG16, ResNet-50, an autoencoder, luminance, motion, or any series made
elsewhere) predict BOLD responses some seconds later by ridge regression. Two protocols:
``published`` repeats the study (raw features, every penalty scored on the test set), ``selected``
chooses each voxel's penalty, and of several conditions the best, on training runs, and reports
noise ceiling, significance, lags and regions.

Modules: ``ridge`` and ``selection`` fit; ``delays`` and ``design`` align features with volumes;
``cleaning`` and ``responses`` prepare BOLD; ``ceiling``, ``significance``, ``identification`` and
``banded`` judge; ``vgg16``, ``resnet50``, ``autoencoder``, ``weights`` and ``extraction`` make
features, which ``feature_cache`` keeps; ``figures`` and ``surfaces`` draw.

Steps: ``features``, ``fit``, ``summarize``.

Assumptions: the response is linear in the features at fixed lags; test stimuli are not training
stimuli (refused otherwise); repeats have independent noise.
"""
