"""FAST: a chunk's cosine coefficients, in few tokens (Pertsch et al. 2025, arXiv 2501.09747)."""

import math
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vla.heads.binning import Code
from vla.heads.chunks import held
from vla.heads.fast_vocabulary import FastVocabulary
from vla.observation import ActionChunk


def cosine_transform(n: int) -> Float[Tensor, "n n"]:
    """The matrix of the orthonormal DCT-II of n samples: row k holds the cosine of frequency k. Its transpose inverts
    it.
    """
    index = torch.arange(n, dtype=torch.float64)
    matrix = math.sqrt(2 / n) * torch.cos(math.pi / n * (index + 0.5) * index[:, None])
    matrix[0] /= math.sqrt(2)
    return matrix.float()


class FastCode(Code):
    """The transform over time of each number of the action, times ``scale``, rounded, low frequencies first, in BPE.

    The vocabulary, of ``size`` entries, is fitted to a training set, or read from a published ``folder``. Departures: a
    chunk ends with an end token, which says that all further coefficients are 0, so that these are not told; and what
    would hold more coefficients than are left may not be told, so that whatever is told is a chunk.
    ``RuntimeError`` before it is fitted.
    """

    end_id: int
    transform: Tensor
    symbols: Tensor
    merges: Tensor
    about: Tensor
    scale: Tensor

    def __init__(self, size: int, scale: float, folder: Path | None, *, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.shape, self.numbers, self.folder = (horizon, action_dim), horizon * action_dim, folder
        self.entries, self.end_id = size + 1, size
        self.length = (1 if folder is None else 2) * self.numbers + 1  # a published entry may be half a number
        self.register_buffer("transform", cosine_transform(horizon), persistent=False)
        self.register_buffer("symbols", torch.full((size,), -1))
        self.register_buffer("merges", torch.full((size, 3), -1))
        self.register_buffer("about", torch.zeros(2, dtype=torch.long))  # lowest, bytewise
        self.register_buffer("scale", torch.tensor(float(scale)))
        self._made: tuple[list[Tensor], FastVocabulary] | None = None

    @property
    def vocabulary(self) -> FastVocabulary:
        """What the buffers hold."""
        now = [self.symbols, self.merges, self.about]
        if self._made is None or not all(a.equal(b) for a, b in zip(self._made[0], now, strict=True)):
            if int(self.symbols.max()) < 0:
                raise RuntimeError(
                    "the vocabulary of this FAST head is not fitted: call fit with a training set's chunks"
                )
            merges = self.merges[self.merges[:, 0] >= 0].tolist()
            lowest, bytewise = self.about.tolist()
            vocabulary = FastVocabulary(
                symbols=tuple(self.symbols.tolist()),
                merges=tuple((first, second, both) for first, second, both in merges),
                lowest=lowest,
                bytewise=bool(bytewise),
            )
            self._made = [x.clone() for x in now], vocabulary
        return self._made[1]

    def fit(self, target: ActionChunk) -> None:
        """``ValueError`` where there is nothing to fit to, and for a folder of another size."""
        if self.folder is None:
            chunks = held(target)[target.valid.any(dim=1)]
            if not len(chunks):
                raise ValueError("expected chunks with valid actions to fit a FAST vocabulary to, got none")
            vocabulary = FastVocabulary.fit(self._rows(chunks), len(self.symbols))
        else:
            vocabulary, scale = FastVocabulary.load(self.folder)
            self.scale.fill_(scale)
        sizes = len(vocabulary.symbols), len(vocabulary.merges)
        if sizes[0] != len(self.symbols) or sizes[1] > len(self.merges):
            raise ValueError(
                f"expected a vocabulary of {len(self.symbols)} entries, as the head's config says, got {sizes[0]} with "
                f"{sizes[1]} merges in {self.folder}"
            )
        self.symbols.copy_(torch.tensor(vocabulary.symbols))
        self.merges.fill_(-1)
        if vocabulary.merges:
            self.merges[: sizes[1]] = torch.tensor(vocabulary.merges).to(self.merges)
        self.about.copy_(torch.tensor([vocabulary.lowest, int(vocabulary.bytewise)]))

    def encode(self, actions: Float[Tensor, "b h a"]) -> Int[Tensor, "b m"]:
        told = [torch.tensor([*ids, self.end_id]) for ids in self.vocabulary.encode(self._rows(actions))]
        return pad_sequence(told, batch_first=True, padding_value=self.end_id).to(actions.device)

    def decode(self, ids: Int[Tensor, "b m"]) -> Float[Tensor, "b h a"]:
        chunks = torch.zeros(len(ids), self.numbers)
        for chunk, row in zip(chunks, ids.tolist(), strict=True):
            told = row[: row.index(self.end_id)] if self.end_id in row else row
            numbers = self.vocabulary.decode(told)[: self.numbers]
            chunk[: len(numbers)] = torch.tensor(numbers, dtype=chunk.dtype)
        coefficients = chunks.to(self.transform).unflatten(1, self.shape) / self.scale
        return self.transform.mT @ coefficients

    def allowed(self, ids: Int[Tensor, "b m"]) -> Bool[Tensor, "b n c"]:
        """What holds no more coefficients than are left; the end always."""
        begun = torch.tensor([*self.vocabulary.begun, 0], device=ids.device)
        used = torch.tensor([*map(bool, self.vocabulary.expansions), True], device=ids.device)
        told = torch.cat([ids.new_zeros(len(ids), 1), begun[ids].cumsum(dim=1)], dim=1)
        return used & (begun <= (self.numbers - told)[..., None])

    def _rows(self, actions: Float[Tensor, "b h a"]) -> list[list[int]]:
        """Coefficients, those of low frequencies first, without the zeros at the end."""
        transformed = self.transform @ actions.to(self.transform)
        rows = (transformed * self.scale).round().long().flatten(1)
        position = torch.arange(1, self.numbers + 1, device=rows.device)
        lengths = (position * (rows != 0)).amax(dim=1).tolist()
        return [row[:length] for row, length in zip(rows.tolist(), lengths, strict=True)]
