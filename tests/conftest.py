"""Settings of every test."""

import torch

torch.set_num_threads(1)  # two threads collapse as soon as anything else runs on the machine
