# ruff: noqa: INP001 - a program that stands by itself
"""The health of a container, whichever process it runs: a door must answer; of the others it is enough that
they live.

Whether workers make progress is seen where it matters, in the age of the oldest receipt that waits.
"""

import http.client
import sys
from pathlib import Path

command = Path("/proc/1/cmdline").read_bytes().decode().split("\0")
if "--port" in command:
    port = int(command[command.index("--port") + 1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    connection.request("GET", "/healthz")
    sys.exit(connection.getresponse().status != http.HTTPStatus.OK)
