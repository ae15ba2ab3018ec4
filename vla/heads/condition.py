"""What tells the places behind an observation where the robot is and is to go."""

import torch
from torch import nn

from vla.backbone import Backbone


def condition(backbone: Backbone, state_dim: int) -> nn.Linear:
    """From the state and, where there is one, the waypoint to a token as large as those of the backbone's words."""
    linear = nn.Linear(state_dim + backbone.waypoint_dim, backbone.width)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.mul_(backbone.token_scale())
    return linear
