"""Takes `--flag value`, and prints `name=value`."""

import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
lr = parser.parse_args().lr
for epoch in range(2):
    print(f"epoch={epoch} loss={lr + 1} val_acc={0.9 - lr - 0.1 / (epoch + 1)}", flush=True)
