"""Who acts, and the worlds that are made for it."""

from configs.acting import Actor
from configs.commands.eval import Config, evaluate_tasks
from configs.worlds import EnvConfig


def test_nothing_is_drawn_where_nobody_looks_and_episodes_are_the_same():
    actor = Actor("expert", EnvConfig(image_size_px=16, threads=1))
    env, _ = actor.enter("reach", 1, "held_out", filmed=False)
    assert env.embodiment.cameras == ()
    env.close()
    unseen, seen = (
        evaluate_tasks(actor, Config(policy="expert", tasks=("reach",), videos=videos), [0, 1], show_progress=False)[0]
        for videos in (0, 1)
    )
    assert unseen.episodes == seen.episodes
    assert len(unseen.videos) == 0 and len(seen.videos) == 1
