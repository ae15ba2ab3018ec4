"""Whether words and deeds can agree in the simulator, whose arms lag and slip: scripted experts, truly narrated."""

import torch

from configs.environments import make_env
from configs.worlds import EnvConfig
from envs.specs import STATE_KEY
from policies.agreement import Said, agreement
from policies.narration import Narrator

CHUNK, STEPS = 8, 24


def test_what_is_truly_said_of_an_experts_actions_is_what_the_arm_then_does():
    env = make_env("pick", 4, stream="evaluate", config=EnvConfig(threads=1, image_size_px=16))
    try:
        narrator = Narrator(env.embodiment)
        states, actions, ends = [env.reset([0, 1, 2, 3])[STATE_KEY]], [], [STEPS] * 4
        for step in range(STEPS):
            actions.append(env.expert_action())
            moved = env.step(actions[-1])
            states.append(moved.observation[STATE_KEY])
            for world in moved.ended:
                ends[world] = step + 1
    finally:
        env.close()
    state, done = torch.stack(states, 1), torch.stack(actions, 1)
    said = []
    for world, end in enumerate(ends):
        for step in range(0, end - CHUNK + 1, 4):
            chunk = done[world, step : step + CHUNK]
            sentence = narrator.sentences[int(narrator.said_of(chunk[None]))]
            said.append(Said(sentence, chunk, state[world, step], state[world, step + CHUNK], CHUNK))
    found = agreement(narrator, said)
    assert found.decisions >= 10 and len(found.sentences) >= 4
    assert found.chunk.value == 1
    assert found.deed.value > 0.8 > 0.5 > found.deed_by_chance
