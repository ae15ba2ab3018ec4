"""Rewards that are learned or read off pictures, how far they can be trusted, and when they no longer can."""
