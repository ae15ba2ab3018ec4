"""Simulated worlds: scenes, robots, controllers, tasks, experts and physics backends."""
