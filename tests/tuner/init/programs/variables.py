"""Takes an environment variable, and writes a CSV file."""

import csv
import os
import time
from pathlib import Path

lr = float(os.environ.get("LR", "0.1"))
folder = Path("logs", str(time.time()))  # a new one for each run
folder.mkdir(parents=True)
with (folder / "metrics.csv").open("w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["epoch", "train_loss", "val_loss"])
    rows.writerows([epoch, lr, 1 - lr] for epoch in range(2))
print("done")
