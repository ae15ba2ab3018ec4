"""The cart's policy on a server of its own: ``python cart_server.py [page]`` prints its port, and where the page is."""

import asyncio
import sys
import threading

from carts import Creep

from policies.serving.config import ServeConfig
from policies.serving.server import PolicyServer

server = PolicyServer(Creep(), ServeConfig(port=0, page="page" in sys.argv))
started = threading.Event()
threading.Thread(target=lambda: (started.wait(), print(server.port, flush=True)), daemon=True).start()
asyncio.run(server.serve_until_told(started))
