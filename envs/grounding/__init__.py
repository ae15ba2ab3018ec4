"""Scenes to look at, with sentences that each name one thing there: what a network may learn before it acts."""
