"""Takes `group.key=value`, as Hydra and OmegaConf do, and prints `name: value`."""

import sys

given = dict(word.lstrip("+").split("=", 1) for word in sys.argv[1:] if "=" in word)
lr = float(given["optimizer.lr"])
for epoch in range(2):
    print(f"Epoch {epoch + 1}/2 - loss: {lr + 1:.3f} - val_acc: {0.9 - lr:.3f}", flush=True)
