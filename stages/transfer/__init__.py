"""Transfer: a small network learns anatomical landmarks first, and lesions from few cases then.

A mini-VGG learns to name landmarks (K classes and the background) on 2.5D patches. Its 512
features, frozen, describe places on the vessels of angiograms, and AdaBoost with decision stumps
learns which of them are aneurysms. The same with other sources (CIFAR-10, natural images, random
weights, any weights file) shows what landmarks are good for: the area under the ROC curve against
the number of weak learners.

Modules: ``volumes``, ``landmarks``, ``cutting`` make patches; ``network``, ``training``,
``landmark_source``, ``natural_images``, ``search`` train; ``detection`` finds landmarks in whole
images; ``vesselness`` and ``centreline`` find candidates; ``booster`` and ``rivals`` learn lesions;
``splits`` keeps people apart; ``judging`` and ``comparing`` judge. Steps: ``patches``,
``vessels``, ``pretrain``, ``detect``, ``features``, ``boost``, ``score``, ``evaluate``.

Assumptions: vessels are bright; landmarks are points that every participant has; a participant,
with all images, is either for training or for testing, of the networks too. Research only.
"""
