"""Takes a positional argument, and prints sentences for people."""

import argparse

parser = argparse.ArgumentParser()
parser.add_argument("lr", type=float, help="between 0.001 and 1")
lr = parser.parse_args().lr
print("Loaded digits: 1257")
print(f"Test accuracy: {86 - lr:.1f}%")
print(f"Train accuracy: {90 + lr:.1f}%")
