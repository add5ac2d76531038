"""One trial: `python -m trainer --lr 1e-3 --bs 64` trains a GAN and prints its metrics."""

__version__ = "0.1.0"
