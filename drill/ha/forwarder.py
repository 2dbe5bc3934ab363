"""A wire that can be cut: forwards connections to the database's members, as a process of its own.

    python forwarder.py LISTEN:TARGET …

Stopped (SIGSTOP), it is a network that swallows everything: connections are still taken by the kernel, and nothing comes through.
"""

from __future__ import annotations

import asyncio
import sys

_PIECE = 65536


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass  # one end is gone: the other is told by closing
    finally:
        writer.close()


async def _serve(listen: int, target: int) -> asyncio.Server:
    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    return await asyncio.start_server(joined, "127.0.0.1", listen)


async def main() -> None:
    """Forward until ended."""
    pairs = [tuple(int(port) for port in word.split(":")) for word in sys.argv[1:]]
    servers = [await _serve(listen, target) for listen, target in pairs]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main())
