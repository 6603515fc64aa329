# ruff: noqa: INP001 - a standalone program
"""The health check of a container: the receiver and the API must answer; other processes only have to run.

The progress of workers is monitored by the age of the oldest pending receipt instead.
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
