"""Train the demo's small CNN on scikit-learn's handwritten digits; run as a process of its own.

    python -m tinyml_local.demo.train DIR

leaves in DIR: `digits.keras`, `calibration.npz` (`x`: float32 [256, 8, 8, 1]), `test.npz` (`x`:
float32 [360, 8, 8, 1], `y`: int64 [360]) and `training.json` (`float_accuracy`, 0 to 1, on that
test set; `epochs`; `parameters`). Pixels are scaled from 0..16 to 0..1. The same seed gives the
same split and the same model.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

SEED = 7
TEST_SAMPLES = 360
CALIBRATION_SAMPLES = 256
EPOCHS = 16


def main(output: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

    import keras
    import numpy as np
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(SEED)
    digits = load_digits()
    x = (digits.images / 16.0).astype(np.float32)[..., np.newaxis]
    y = digits.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(x))
    test, train = order[:TEST_SAMPLES], order[TEST_SAMPLES:]

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.Conv2D(32, 1, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )
    model.compile(
        optimizer=keras.optimizers.Adam(3e-3),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    for epoch in range(EPOCHS):
        result = model.fit(x[train], y[train], batch_size=64, verbose=0)
        print(f"epoch {epoch + 1}/{EPOCHS} loss={result.history['loss'][-1]:.4f}", flush=True)
    predicted = model.predict(x[test], verbose=0).argmax(axis=1)

    output.mkdir(parents=True, exist_ok=True)
    model.save(output / "digits.keras")
    np.savez(output / "calibration.npz", x=x[train][:CALIBRATION_SAMPLES])
    np.savez(output / "test.npz", x=x[test], y=y[test])
    (output / "training.json").write_text(
        json.dumps(
            {
                "float_accuracy": float((predicted == y[test]).mean()),
                "epochs": EPOCHS,
                "parameters": int(model.count_params()),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
