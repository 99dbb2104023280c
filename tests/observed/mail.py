"""A mail server of a few lines (RFC 5321), for what others deliver to it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Letter:
    """Who sent it to whom, and what it says, headers first."""

    sender: str
    to: list[str] = field(default_factory=list)
    content: str = ""


@dataclass
class Mailbox:
    """What has come, on a server at `address`."""

    address: str = ""
    letters: list[Letter] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def wait(self, letters: int = 1, within_s: float = 60) -> list[Letter]:
        """Return once this many have come."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.letters) >= letters, within_s)
            return list(self.letters)


@contextmanager
def receiving() -> Iterator[Mailbox]:
    """Serve on a free port of loopback until the block ends, in a thread of its own."""
    box = Mailbox()
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(lambda r, w: _talk(box, r, w), "127.0.0.1", 0)
        box.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await box.stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(box.stop.set)
        thread.join(10)


async def _talk(box: Mailbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    letter = Letter("")

    def say(line: str) -> None:
        writer.write(f"{line}\r\n".encode())

    say("220 mail.example ready")
    while line := (await reader.readline()).decode().strip():
        word = line.split(" ")[0].upper()
        if word in ("EHLO", "HELO"):
            say("250 mail.example")
        elif word == "MAIL":
            letter = Letter(line.partition(":")[2].split(" ")[0].strip("<>"))
            say("250 ok")
        elif word == "RCPT":
            letter.to.append(line.partition(":")[2].strip("<>"))
            say("250 ok")
        elif word == "DATA":
            say("354 go on")
            content = await reader.readuntil(b"\r\n.\r\n")
            letter.content = content.decode()
            with box.arrived:
                box.letters.append(letter)
                box.arrived.notify_all()
            say("250 kept")
        elif word == "QUIT":
            say("221 bye")
            break
        else:
            say("250 ok")
    writer.close()
