"""Geometry of what cameras see: coloured point clouds, pictures of them, and places found in pictures."""
