"""What training makes small: a classification's, a quantity's or a binned quantity's loss."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.classifier.data import Data
from stages.classifier.program import Member, soft_labels

Indices = NDArray[np.intp]


def make_loss(
    member: Member, data: Data, train: Indices, *, balance: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """Choose the loss: cross-entropy, squared error of scaled quantities, or KL over bins."""
    head = member.head
    if not data.is_quantity:
        weight = None
        if balance:
            count = torch.bincount(data.labels[train], minlength=int(data.labels.max()) + 1)
            weight = len(train) / (len(count) * count.clamp(min=1).float())

        def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
            own = None if weight is None else weight.to(scores)
            return nn.functional.cross_entropy(scores, labels, weight=own)

        return cross_entropy
    if head.bins > 1:

        def divergence(scores: Tensor, years: Tensor) -> Tensor:
            wanted = soft_labels(years, head.centres.to(years))
            return nn.functional.kl_div(
                scores.log_softmax(dim=1), wanted.to(scores), reduction="batchmean"
            )

        return divergence

    def squared_error(scores: Tensor, years: Tensor) -> Tensor:
        wanted = (years - head.centres.to(years)) / head.scale.to(years)
        return nn.functional.mse_loss(scores[:, 0], wanted)

    return squared_error
