"""Networks: vision-language backbones, action heads and what joins them. Tensors in, tensors out."""
