"""Acting and imitation: the policy API, processors, datasets, training, evaluation, serving."""
