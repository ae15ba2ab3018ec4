"""Yes or no: what a pretrained vision-language model answers a question about pictures, by its next token."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vla.backbones.vlm.config import VLMConfig
from vla.backbones.vlm.locate import locate
from vla.checkpoint import CheckpointError
from vla.observation import Observation

PROMPT = "{images}Question: is this done: {instruction}? Answer yes or no.\nAnswer:"
YES = ("yes", "Yes", " yes", " Yes", "YES")
NO = ("no", "No", " no", " No", "NO")
_HEAD = "lm_head.weight"


class YesOrNo:
    """The model of ``config``, frozen, which is shown pictures of ``image_size_px`` (height, width).

    Of every spelling of the two answers the first token counts, unless both answers begin with it. ``CheckpointError``
    where the checkpoint is not there or damaged, or its tokenizer cannot tell the answers apart.
    """

    def __init__(
        self, config: VLMConfig, image_size_px: tuple[int, int], views: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        frozen = replace(config, tuning="frozen", also_learns="", n_queries=1)
        self._vlm = frozen.build(state_dim=1, views=views, image_size_px=image_size_px).eval().requires_grad_(False)
        self.device = torch.device(device)
        text = self._vlm.model.config.get_text_config()
        self._softcap: float | None = getattr(text, "final_logit_softcapping", None)
        own = _output_rows(locate(config.checkpoint))
        rows = self._vlm.model.get_input_embeddings().weight if own is None else own
        yes, no = self._answers()
        self._yes, self._no = (rows.detach()[ids].float().to(self.device) for ids in (yes, no))
        self._vlm.to(self.device)

    @torch.inference_mode()
    def margin(self, images: UInt8[Tensor, "n v h w 3"], questions: Sequence[str]) -> Float[Tensor, " n"]:
        """log p(yes) − log p(no) of the token that follows each prompt; ``ValueError`` for one that is too long."""
        self._vlm.check_texts(list(questions))
        text, mask = (each.to(self.device) for each in self._vlm.tokenize(questions))
        pictures = images.to(self.device).permute(0, 1, 4, 2, 3).float()[:, None] / 255
        observation = Observation(
            images=pictures,
            view_mask=torch.ones(pictures.shape[:3], dtype=torch.bool, device=self.device),
            text=text,
            text_mask=mask,
            state=torch.zeros(len(pictures), 1, device=self.device),
        )
        hidden = self._vlm.encode(observation).features.hidden[-1]
        last = len(self._vlm.frame) + mask.sum(dim=1) - 1
        asked = hidden[torch.arange(len(hidden), device=self.device), last].float()
        yes, no = (self._logits(asked, rows).logsumexp(dim=1) for rows in (self._yes, self._no))
        return (yes - no).clone()

    def _logits(self, hidden: Float[Tensor, "n d"], rows: Float[Tensor, "k d"]) -> Float[Tensor, "n k"]:
        logits = hidden @ rows.T
        return logits if self._softcap is None else self._softcap * torch.tanh(logits / self._softcap)

    def _answers(self) -> tuple[Int[Tensor, " k"], Int[Tensor, " m"]]:
        yes, no = ({self._first(text) for text in spellings} for spellings in (YES, NO))
        if not yes - no or not no - yes:
            raise CheckpointError("the tokenizer begins yes and no alike, so that one token does not tell them apart")
        return torch.tensor(sorted(yes - no)), torch.tensor(sorted(no - yes))

    def _first(self, text: str) -> int:
        return int(self._vlm.tokenize([text], ended=True)[0][0, 0])


def _output_rows(folder: Path) -> Any:
    """The rows of the output layer that lie in ``folder``; None where it is that of the embeddings."""
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    if name == _HEAD or name.endswith(f".{_HEAD}"):
                        return file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"expected safetensors files in {folder}: {error}") from error
    return None
