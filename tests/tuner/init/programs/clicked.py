"""Takes options with click, and prints JSON lines."""

import json

import click


@click.command()
@click.option("--lr", type=click.FloatRange(0.001, 1), default=0.1, show_default=True)
def main(lr: float) -> None:
    """Train."""
    for epoch in range(2):
        print(json.dumps({"epoch": epoch, "train_loss": lr, "val_loss": 1 - lr}), flush=True)


main()
