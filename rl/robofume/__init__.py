"""RoboFuME: fine-tuning without resets, by the word of a success classifier (arXiv 2310.15145)."""
