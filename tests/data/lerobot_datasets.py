"""Made-up stores and LeRobot datasets that the tests of their exchange share."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from synthetic_demonstrations import make_embodiment, make_episode

from policies.data.left_out import LeftOut
from policies.data.writer import DemonstrationWriter

LENGTHS = (7, 12, 1, 9)
SETTINGS = {"env": {"profile": "fast"}, "noise": None}


def make_store(path, lengths=LENGTHS, *, everything=False, smooth=False):
    """A store of two cameras; ``everything`` adds every kind of field, ``smooth`` pictures that a codec is made for."""
    embodiment = make_embodiment(depth=everything, segmentation=everything, size_px=32 if smooth else 12)
    with DemonstrationWriter.create(
        path, embodiment, settings=SETTINGS, geometry=everything, phase=everything
    ) as writer:
        for index, length in enumerate(lengths):
            episode = make_episode(index, embodiment, length, geometry=everything, phase=everything)
            for camera, pictures in episode.images.items() if smooth else ():
                pictures[:] = moving_disc(index, len(episode), pictures.shape[1:3], camera)
            writer.append(episode)
    LeftOut(failed={"pick": {77, 5}}, elsewhere={"reach": {9}}).write(path)
    return path


def moving_disc(index, length, size, camera):
    """Pictures of a soft disc on a shaded table, no two alike."""
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    pictures = []
    for frame in range(length):
        at = 0.2 + 0.6 * frame / 12, 0.2 + 0.15 * index
        near = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 0.03)
        channels = (near, 0.3 + 0.4 * x, 0.6 * y if camera == "front" else 1 - near)
        pictures.append(np.stack(channels, -1))
    return (255 * np.clip(pictures, 0, 1)).astype(np.uint8)


def psnr_db(got, expected):
    """Peak signal-to-noise ratio of 8-bit pictures."""
    error = np.square(got.astype(float) - expected).mean()
    return 10 * np.log10(255**2 / error) if error else np.inf


def rewrite(file, change):
    """Write a Parquet file anew as ``change(its rows)``, each row a dict."""
    table = pq.read_table(file)
    pq.write_table(pa.Table.from_pylist([row for row in map(change, table.to_pylist()) if row is not None]), file)


def make_foreign(path):
    """Take from a LeRobot dataset all that only ours say."""
    (path / "meta" / "vla.json").unlink()
    for file in (path / "meta" / "episodes").rglob("*.parquet"):
        rewrite(file, lambda row: {key: value for key, value in row.items() if not key.startswith("vla.")})
    return path
