"""How well a backbone looks."""

from collections.abc import Iterable

import torch

from policies.pretraining.inputs import LookBatch
from vla.grounding import Looking, LookWeights, near
from vla.objectives import Term


@torch.no_grad()
def evaluate(looking: Looking, batches: Iterable[LookBatch], weights: LookWeights) -> dict[str, float]:
    """Losses, and errors over all sentences of ``batches``, each counted alike.

    Beside the means, ``world_cm_median``: of the distance to the referent, where any view sees it. The network is put
    in evaluation mode. ``ValueError`` without a batch.
    """
    looking.eval()
    found: dict[str, list[Term]] = {}
    world_m = []
    for batch in batches:
        terms, errors = looking(batch.observation, batch.about, batch.target)
        for name, term in {**terms, **near(errors)}.items():
            found.setdefault(name, []).append(term)
        world_m.append(errors.world_m[errors.seen.any(dim=1)])
    if not world_m:
        raise ValueError("expected scenes with a sentence at least to evaluate on, got none")
    means = {name: float(Term.together(terms).mean) for name, terms in found.items()}
    loss = sum(weight * means[name] for name, weight in vars(weights).items())
    distances_m = torch.cat(world_m)
    median_cm = 100 * float(distances_m.quantile(0.5)) if len(distances_m) else float("nan")
    return {"loss": loss, **means, "world_cm_median": median_cm}
