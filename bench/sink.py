"""An endpoint for deliveries: answers everything with 204 at once, and `/hang` never.

`GET /arrivals` lists the deliveries since the last call, as lines of `<webhook-id> <seconds since 1970>`. Started by
`python -m bench.sink PORT`.
"""

import asyncio
import sys
import time
from contextlib import suppress
from typing import Final

_TAKEN: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_HANGING: Final = b"POST /hang "

_arrivals: list[str] = []


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET "):
                writer.write(_report())
                continue
            headers = head.lower()
            await reader.readexactly(int(_value(headers, b"content-length")))
            if head.startswith(_HANGING):
                await reader.read()  # until the other side has had enough
                break
            _arrivals.append(f"{_value(headers, b'webhook-id').decode()} {time.time()}")
            writer.write(_TAKEN)
    writer.close()


def _value(headers: bytes, name: bytes) -> bytes:
    return headers.partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip()


def _report() -> bytes:
    body = "\n".join(_arrivals).encode()
    _arrivals.clear()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def _main(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port, backlog=2000)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
