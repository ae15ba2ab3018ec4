"""Draws a small scene off screen and prints how fast, as JSON: ``python -m envs.backends.probe``.

A broken OpenGL driver may hang or abort; whoever asks runs this as a process of its own, with a time limit.
"""

import json
import time

import mujoco
import numpy as np

from envs.backends.gl import Pictures, Renderer, make_gl_context
from envs.rendering import RenderConfig

SIZE_PX = 84
FRAMES = 300
SCENE = """
<mujoco>
  <worldbody>
    <light pos="0 0 2"/>
    <camera name="front" pos="1 0 1" xyaxes="0 1 0 -0.7 0 0.7"/>
    <geom type="plane" size="1 1 0.1" rgba="0.4 0.4 0.4 1"/>
    <geom type="box" pos="0 0 0.1" size="0.1 0.1 0.1" rgba="0.9 0.1 0.1 1"/>
  </worldbody>
</mujoco>
"""


def measure() -> dict[str, str | int | float]:
    """Backend, the picture's size and frames per second; ``RuntimeError`` if the picture comes out blank."""
    gl = make_gl_context(SIZE_PX, SIZE_PX)
    backend = type(gl).__module__.removeprefix("mujoco.")
    model = mujoco.MjModel.from_xml_string(SCENE)
    renderer = Renderer(model, RenderConfig(cameras=("front",), height_px=SIZE_PX, width_px=SIZE_PX))
    pictures = Pictures(np.zeros((1, SIZE_PX, SIZE_PX, 3), np.uint8), None, None, np.zeros((1, 4, 4), np.float32))
    renderer.draw(model, np.zeros(model.nq), pictures)
    if np.ptp(pictures.rgb.astype(int)) < 50:
        raise RuntimeError("OpenGL made a context but drew a blank picture")
    began = time.perf_counter()
    for _ in range(FRAMES):
        renderer.draw(model, np.zeros(model.nq), pictures)
    frames_per_s = FRAMES / (time.perf_counter() - began)
    renderer.close()
    gl.free()
    return {"backend": backend, "size_px": SIZE_PX, "frames_per_s": round(frames_per_s)}


if __name__ == "__main__":
    print(json.dumps(measure(), allow_nan=False))
