"""Settings of all trainer tests: one CPU thread, because threads that wait for each other make a busy machine slow."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch loads its OpenMP library

import torch

torch.set_num_threads(1)
