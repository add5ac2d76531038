"""One trial: the GAN trainer in the container, `python -m trainer --lr 1e-3 --bs 64`, and prints metrics."""

__version__ = "0.1.0"
