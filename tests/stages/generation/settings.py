"""Plain settings of the training loop, for tests to change."""

from stages.generation.train import Settings


def settings(**given) -> Settings:
    """Give settings without anything extra."""
    plain = {
        "steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "warmup": 0,
        "min_snr": 0.0,
        "drop_prompt": 0.0,
        "ema_decay": 0.0,
        "prior_weight": 0.0,
        "balance": True,
        "precision": "float32",
    }
    return Settings(**(plain | given))
