"""The llama.cpp engine process: one GGUF model, served on one address until SIGTERM.

Run by its path, in isolation (`python -I llamacpp_server.py …`), so that neither the folder it
stands in nor the caller's environment decides what is imported. It imports nothing of ours.

Until the model is loaded llama.cpp may print errors. From then on it prints into nothing: it
repeats requests it rejects, with pieces of their text, and does so past its own log level
(decision 0021). What is printed after that is ours: where it listens, as what, and its end. Its
pages, its slot listing (which shows prompts) and any fetching of models are off.
"""

import argparse
import os
import resource
import signal
import sys
import threading
import time
from typing import Any

# llama.cpp's own levels: 1 errors, 2 warnings, 3 what happens, 4 debug.
ERRORS_ONLY = 1
# A stop waits this long for answers under way, then the process goes. Callers allow 5 s.
STOP_WITHIN_S = 3.0


def main() -> None:
    """Serve until told to stop."""
    asked = _arguments()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold conversations
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    server = _serve(asked)
    _silence_all_but_us()
    _say(f"listening on {server.listening_address} as {asked.served_name}")
    told.wait()
    idle = _idle_within(server, STOP_WITHIN_S)
    _say("stopped" if idle else "stopped with answers under way")
    # Not by taking the server down: that waits for the last answer with Python's lock held, so
    # that nothing here could put a bound to it. There is no file to close.
    os._exit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="llamacpp_server", description=__doc__)
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--served-name", required=True, help="the name it answers as")
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("--port", required=True, type=int, help="1 to 65535")
    parser.add_argument("--context", required=True, type=int, help="tokens a conversation")
    parser.add_argument("--slots", required=True, type=int, help="conversations at a time")
    parser.add_argument("--embeds", action="store_true", help="make vectors, and nothing else")
    return parser.parse_args()


def _serve(asked: argparse.Namespace) -> Any:
    import xllamacpp  # type: ignore[import-untyped]  # a compiled module without stubs

    params = xllamacpp.CommonParams()
    params.model.path = asked.model
    params.model_alias = {asked.served_name}
    params.hostnames = [asked.host]
    params.port = asked.port
    slots = _even(asked.slots) if asked.embeds else asked.slots
    params.n_parallel = slots
    params.n_ctx = asked.context * slots  # llama.cpp divides it among the slots
    params.embedding = asked.embeds
    params.verbosity = ERRORS_ONLY
    params.offline = True
    params.ui = False
    params.endpoint_slots = False
    params.endpoint_metrics = True
    params.cors_origins = ""  # no page in a browser may read answers
    # A shared prefix cache tells one tenant by its speed, and by `cached_tokens`, what another
    # has asked. vLLM has a salt against that; here the cache is off.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    return xllamacpp.Server(params)


def _even(slots: int) -> int:
    """Where it averages over tokens, llama.cpp aborts at its start when its slots do not divide a
    batch of 512 evenly; so the next power of two."""
    return 1 << (slots - 1).bit_length()


def _idle_within(server: Any, seconds: float) -> bool:
    """Wait until no answer is under way; False if `seconds` were not enough."""
    until = time.monotonic() + seconds
    while _answers_under_way(server):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _answers_under_way(server: Any) -> bool:
    lines = server.handle_metrics().splitlines()
    values = dict(line.split(" ", 1) for line in lines if not line.startswith("#") and " " in line)
    waiting = ("llamacpp:requests_processing", "llamacpp:requests_deferred")
    return any(float(values.get(name, 0)) > 0 for name in waiting)


def _silence_all_but_us() -> None:
    """Give every library a stdout and stderr that lead nowhere; keep the real one for `_say`."""
    sys.stdout = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
