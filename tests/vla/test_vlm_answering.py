"""A vision-language model asked yes or no: transformers' own hidden states and output layer decide."""

import pytest
import torch
from tiny_checkpoints import tiny_checkpoint
from transformers import AutoModelForImageTextToText, AutoTokenizer
from vlm_inputs import native

from vla.backbones.vlm.answering import NO, PROMPT, YES, YesOrNo
from vla.backbones.vlm.config import VLMConfig
from vla.observation import Observation

SIZE_PX = (32, 48)
QUESTIONS = ["put the blue block into the green bin", "lift it"]


@torch.no_grad()
def by_transformers(folder, family, asked, images):
    """log p(yes) − log p(no) by the whole model's logits, of one row at a time and nothing after the question."""
    whole = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first = [
        {tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in spellings} for spellings in (YES, NO)
    ]
    yes, no = (sorted(one - other) for one, other in (first, first[::-1]))
    margins = []
    for image, question in zip(images, QUESTIONS, strict=True):
        ids, mask = asked._vlm.tokenize([question])
        shown = Observation(
            images=(image.permute(0, 3, 1, 2).float() / 255)[None, None],
            view_mask=torch.ones(1, 1, 1, dtype=torch.bool),
            text=ids,
            text_mask=mask,
            state=torch.zeros(1, 1),
        )
        hidden, _, _ = native(folder, family, asked._vlm, shown)
        logits = whole.lm_head(hidden[-1, 0, -1])
        cap = getattr(whole.config.get_text_config(), "final_logit_softcapping", None)
        log_p = (logits if cap is None else cap * (logits / cap).tanh()).log_softmax(dim=0)
        margins.append(log_p[yes].logsumexp(0) - log_p[no].logsumexp(0))
    return torch.stack(margins)


@pytest.mark.parametrize("family", ["smolvlm", "paligemma2", "qwen2_5_vl", "llava"])
def test_the_answer_is_the_next_token_of_the_whole_model(family, tmp_path):
    folder = tiny_checkpoint(tmp_path, family)
    asked = YesOrNo(VLMConfig(checkpoint=str(folder), prompt=PROMPT), SIZE_PX)
    images = torch.randint(0, 256, (2, 1, *SIZE_PX, 3), dtype=torch.uint8)
    ours = asked.margin(images, QUESTIONS)
    torch.testing.assert_close(ours, by_transformers(folder, family, asked, images), atol=1e-5, rtol=1e-4)


def test_what_is_longer_than_the_window_is_refused(tmp_path):
    asked = YesOrNo(VLMConfig(checkpoint=str(tiny_checkpoint(tmp_path, "smolvlm")), max_text_tokens=40), SIZE_PX)
    with pytest.raises(ValueError, match="at most 40 tokens"):
        asked.margin(torch.zeros(1, 1, *SIZE_PX, 3, dtype=torch.uint8), ["lift it " * 30])
