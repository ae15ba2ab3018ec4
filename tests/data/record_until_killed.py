"""A recorder for the kill tests: appends made-up episodes to a store for ever, saying which it has committed."""

import sys
from pathlib import Path

from synthetic_demonstrations import make_embodiment, make_episode

from policies.data.writer import DemonstrationWriter


def main(path):
    embodiment = make_embodiment()
    writer = DemonstrationWriter.open(path) if path.exists() else DemonstrationWriter.create(path, embodiment)
    print("opened", len(writer), flush=True)
    while True:
        index = writer.append(make_episode(len(writer), embodiment))
        print("committed", index, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
