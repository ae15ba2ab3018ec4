"""A sentence encoder of transformers, tiny and with random weights, as a folder."""

import torch


def make_encoder(folder, *, seed=0, window=32):
    """A BERT of 16 numbers with a vocabulary of letters and a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *["the", "a", "red", "blue", "disc", "left", "of", "is", "which", "one", "how", "many"]]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(3)  # as folders of sentence encoders say; whole sentences count all the same
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(seed)
    model = BertModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=window,
        )
    )
    fast.save_pretrained(str(folder))
    model.save_pretrained(str(folder))
    return folder
