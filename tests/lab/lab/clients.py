# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""Load: clients of a node's daemon. Each connects, asks for the mode of a GPU, and connects again without a pause."""

import contextlib
import json
import subprocess
from pathlib import Path

from harness import rpc

PROGRAM = "/usr/lib/lab/client"
# Is appended to the text of harness/rpc.py. Runs until its standard input ends; then it prints the results of its calls.
LOOP = """
import select

def ask(path, address):
    with Connection(path, timeout=60) as connection:
        return connection.get(address)

answers, broken, refused = 0, 0, []
while True:
    try:
        status, mode = ask("/var/run/nvidia-persistenced/socket", sys.argv[1])
        assert status == SUCCESS, f"status {status}"
        answers += 1
        if answers == 1:  # inside the `try`, so that a failed call does not print this line again
            print("calling", flush=True)
    except (EOFError, ConnectionResetError, BrokenPipeError):
        broken += 1  # the daemon ended during the call
    except OSError as error:
        refused.append(str(error))
    if select.select([0], [], [], 0)[0]:
        break
print(f'{{"answers": {answers}, "broken": {broken}, "refused": "{"; ".join(refused)}"}}')
"""


class Tally:
    """The results of the calls of all clients."""

    def __init__(self):
        self.answers = self.broken = 0
        self.refused = []

    def add(self, results):
        self.answers += results["answers"]
        self.broken += results["broken"]
        self.refused += [results["refused"]] if results["refused"] else []


def start(node):
    client = subprocess.Popen(node.command("python3", PROGRAM, node.gpus.addresses[0]), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "calling\n", "the client got no answer"
    return client


@contextlib.contextmanager
def calling(node, count=4):
    """Runs COUNT clients meanwhile. Yields their Tally, which is complete afterwards."""
    library = Path(rpc.__file__).read_text().partition("\ndef main(")[0]
    node.write(PROGRAM, library + LOOP)
    tally = Tally()
    clients = [start(node) for _ in range(count)]
    try:
        yield tally
    finally:
        for client in clients:
            tally.add(json.loads(client.communicate(timeout=90)[0]))
