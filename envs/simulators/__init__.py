"""Worlds of other projects' simulators, behind the contract of ours."""
