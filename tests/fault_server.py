"""A server whose truth is known: it streams on a fixed beat, fails on demand, and keeps its own record of what came.

Run as a process (`python tests/fault_server.py --fault reset`), or through `fault_server(...)`. GET /log gives one row
for each model call: when it was received by this server's own clock, its prompt and what was asked for.
Every `--every`-th call gets the fault, the others are answered whole; a call to /FAULT/v1/… gets that one in any case.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import ssl
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MODEL = "tiny"
_FAULTS = """
none reset reset-midway half bad-json bad-shape error-event wrong-count wrong-prompt-count no-token stall
silent 429 429-date 500 404 not-a-stream close bad-http no-usage split short-no-usage end-apart end-blank
end-blank-no-usage stop-blank-no-usage blank-last blank-last-no-usage blank-extra echo
"""
FAULTS = tuple(_FAULTS.split())
FAST = ("--first-s", "0.005", "--gap-s", "0.002")  # options of one that answers without delay


class Server:
    """Answers on one loopback port."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.log: list[dict[str, Any]] = []

    async def serve(self) -> None:
        """Print the address, then answer until killed."""
        context = None
        if self.options.cert:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.options.cert, self.options.key)
        server = await asyncio.start_server(self.connection, "127.0.0.1", self.options.port, ssl=context, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        try:
            while await self.one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = head.split(" ", 2)[1]
        prefix, _, rest = path[1:].partition("/")
        fault, path = (prefix, f"/{rest}") if prefix in FAULTS else ("", path)
        if path.startswith("/v1/") and path.endswith("completions"):
            return await self.model_call(writer, path, headers, body, fault)
        answers: dict[str, Any] = {
            "/health": {},
            "/v1/models": {"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 4096}]},
            "/version": {"version": "0.0.0+fault"},
            "/log": self.log,
        }
        status = "200 OK" if path in answers else "404 Not Found"
        text = json.dumps(answers.get(path, {})).encode()
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n".encode())
        writer.write(b"Content-Length: %d\r\n\r\n" % len(text) + text)
        await writer.drain()
        return True

    async def model_call(
        self, writer: asyncio.StreamWriter, path: str, headers: dict[str, str], body: bytes, fault: str
    ) -> bool:
        """Stream tokens on the beat, or fail."""
        asked = json.loads(body)
        chat = path.endswith("chat/completions")
        self.log.append(
            {
                "received_at": time.time(),
                "path": path,
                "prompt": asked["messages"][0]["content"] if chat else asked["prompt"],
                "messages": asked.get("messages"),
                "asked": {key: asked.get(key) for key in ("model", "max_tokens", "n", "temperature", "ignore_eos")},
                "wants_ids": asked.get("return_token_ids", False),
                "authorization": headers.get("authorization", ""),
                "session": headers.get("x-session-id", ""),
            }
        )
        if not fault:
            fault = self.options.fault if len(self.log) % self.options.every == 0 else "none"
        if await self.refused(writer, fault):
            return fault.isdecimal() or fault in ("429-date", "echo")
        await self.stream(writer, asked, chat, fault)
        return fault not in ("half", "reset-midway")

    async def refused(self, writer: asyncio.StreamWriter, fault: str) -> bool:
        """Answer with something that is no stream; false where the fault is none of these."""
        if fault in ("reset", "close"):
            if fault == "reset":
                reset(writer)
            writer.close()
            return True
        if fault == "silent":
            await asyncio.sleep(3600)
        if fault == "bad-http":
            writer.write(b"this is no HTTP\r\n\r\n")
            writer.close()
            return True
        if fault == "echo":  # of the key, first in part, then across the 200th character
            key = self.log[-1]["authorization"].removeprefix("bearer ")
            text = f"wrong key {key[:12]}***: ".ljust(190, ".").encode() + key.encode()
            writer.write(b"HTTP/1.1 401 x\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
            await writer.drain()
            return True
        extra = {"429": "Retry-After: 7\r\n", "429-date": "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT\r\n"}.get(
            fault, ""
        )
        if fault in ("429", "429-date", "500", "404", "not-a-stream"):
            status = {"not-a-stream": "200"}.get(fault, fault[:3])
            text = b'{"error": {"message": "as asked for"}}'
            writer.write(f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\n{extra}".encode())
            writer.write(b"Content-Length: %d\r\n\r\n" % len(text) + text)
            await writer.drain()
            return True
        return False

    async def stream(self, writer: asyncio.StreamWriter, asked: dict[str, Any], chat: bool, fault: str) -> None:
        """The reply's head, its tokens, usage and end."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        tokens, samples = int(asked["max_tokens"]), int(asked.get("n") or 1)
        begun = asyncio.get_running_loop().time() + self.options.first_s
        if chat:
            send(writer, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        last = {"no-token": 0, "short-no-usage": tokens // 2, "stop-blank-no-usage": tokens - 1}.get(fault, tokens) - 1
        for token in range(last + 1):
            due = begun + token * self.options.gap_s
            if due > (now := asyncio.get_running_loop().time()):
                await asyncio.sleep(due - now)
            if token == tokens // 2 and await self.breaks(writer, fault):
                return
            text = "" if token == last and fault.startswith("blank-last") else "a "  # as of a special token
            end = "length" if token == last and not fault.startswith(("end", "stop")) else None
            for index in range(samples):
                event = {"id": "cmpl-0123456789", "object": "text_completion", "model": MODEL}
                event["choices"] = [choice_of(chat, index, text, end)]
                if fault == "split":
                    await in_pieces(writer, event)
                else:
                    send(writer, event)
                if fault == "blank-extra" and token == 0:
                    send(writer, {"choices": [choice_of(chat, index, "", None)]})
        for index in range(samples if fault.startswith(("end", "stop")) else 0):  # the end in an event of its own
            text = None if fault == "end-apart" else ""
            send(writer, {"choices": [choice_of(chat, index, text, "stop" if fault.startswith("stop") else "length")]})
        prompt = 17 if chat else len(asked["prompt"])
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens * samples}
        if fault == "wrong-count":
            usage["completion_tokens"] -= 1
        if fault == "wrong-prompt-count":
            usage["prompt_tokens"] += 1
        if not fault.endswith("no-usage"):
            send(writer, {"choices": [], "usage": usage})
        chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def breaks(self, writer: asyncio.StreamWriter, fault: str) -> bool:
        """A fault in the middle of the stream; true where the stream is over."""
        if fault == "half":
            writer.close()
        elif fault == "reset-midway":
            await writer.drain()
            reset(writer)
            writer.close()
        elif fault == "stall":
            await asyncio.sleep(3600)
        elif fault == "bad-json":
            chunk(writer, b'data: {"choices": [{"ind\n\n')
            return False
        elif fault == "bad-shape":
            chunk(writer, b'data: {"choices": "none"}\n\n')
            return False
        elif fault == "error-event":
            send(writer, {"error": {"message": "engine died", "code": 500}})
            return False
        else:
            return False
        return True


def choice_of(chat: bool, index: int, text: str | None, end: str | None) -> dict[str, Any]:
    """What an event adds to one sample; without text, nothing but the end."""
    said = {} if text is None else {"content" if chat else "text": text}
    return {"index": index, "finish_reason": end} | ({"delta": said} if chat else said)


def send(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    """One event in a chunk of its own."""
    chunk(writer, b"data: " + json.dumps(event).encode() + b"\n\n")


def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    """A chunk of the body."""
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def in_pieces(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    """One event with CR LF as line end and a comment, cut into chunks at odd places."""
    data = b": ping\r\ndata: " + json.dumps(event).encode() + b"\r\n\r\n"
    for start in range(0, len(data), 7):
        chunk(writer, data[start : start + 7])
        await writer.drain()
        if start % 35 == 0:
            await asyncio.sleep(0)


def reset(writer: asyncio.StreamWriter) -> None:
    """Make the close that follows a reset (RST)."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Running:
    """A fault server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int, scheme: str) -> None:
        self.process, self.port = process, port
        self.url = f"{scheme}://127.0.0.1:{port}"

    def log(self) -> list[dict[str, Any]]:
        """What the server received, in its own order."""
        with urllib.request.urlopen(f"{self.url}/log", timeout=10) as answer:
            rows: list[dict[str, Any]] = json.load(answer)
        return rows

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@contextmanager
def fault_server(*options: str) -> Iterator[Running]:
    """Start one on a free port, and stop it whatever happens."""
    command = [sys.executable, str(Path(__file__)), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Running(process, port, "https" if "--cert" in options else "http")
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first-s", type=float, default=0.02)
    parser.add_argument("--gap-s", type=float, default=0.005)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    asyncio.run(Server(parser.parse_args()).serve())


if __name__ == "__main__":
    main()
