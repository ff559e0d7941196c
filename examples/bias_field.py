"""Remove a planted intensity field from a ball of tissue, and say how much of it is left."""

import numpy as np

from stages.preprocessing.bias import estimate_field

SIZE, RADIUS = 40, 15


def main() -> tuple[float, float]:
    """Return the field's coefficient of variation before and after correction."""
    rng = np.random.default_rng(0)
    x, y, z = np.indices((SIZE,) * 3) - SIZE / 2
    distance = np.sqrt(x**2 + y**2 + z**2)
    mask = distance < RADIUS
    tissue = np.where(distance < RADIUS * 0.7, 110.0, 75.0) * mask  # white inside grey
    field = np.exp(0.02 * x - 0.01 * y + 0.0006 * z**2)
    image = tissue * field + rng.normal(0, 1.5, tissue.shape) * mask

    estimated = estimate_field(image, np.diag([4.0, 4.0, 4.0, 1.0]), mask)

    before, left = field[mask], (field / estimated)[mask]
    before_cv, after_cv = before.std() / before.mean(), left.std() / left.mean()
    print(f"field: {before_cv:.1%} before, {after_cv:.1%} after N4 (coefficient of variation)")
    return float(before_cv), float(after_cv)


if __name__ == "__main__":
    main()
