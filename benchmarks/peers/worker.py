"""One case of a peer project, driven by the benchmark suite (lib/bench/peers): a JSON request a line on standard input, an answer a line on
standard output. The first request names the case and its inputs; every `run` measures one round, so that rounds of several processes can
take turns; `check` writes what was computed. Ends when its input ends.
"""

import importlib
import json
import os
import sys
import time

MODULES = {"loss": "trl_loss", "linear": "trl_linear", "liger": "liger_linear", "step": "trl_step"}


class Channel:
    """Requests and answers. Whatever a library prints goes to standard error: only answers may stand on standard output."""

    def __init__(self):
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._open = None

    def next(self):
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # from within a trainer's loop, too: nothing of it is wanted any more
        self._begin = time.process_time()
        request = json.loads(line)
        self._open = request["id"]
        return request

    def answer(self, **fields):
        used = time.process_time() - self._begin  # of all threads
        self._answers.write(json.dumps({"id": self._open, "cpuSeconds": used, **fields}) + "\n")
        self._answers.flush()

    def fail(self, error):
        lines = str(error).strip().splitlines() or [""]
        self.answer(error=f"{type(error).__name__}: {lines[0]}")

    def serve(self, case):
        """Answers until the input ends."""
        while True:
            request = self.next()
            self.answer(**(case.run() if request["op"] == "run" else case.check(request["folder"])))


def prepare(threads):
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)


def main():
    channel = Channel()
    request = channel.next()
    try:
        prepare(request["threads"])
        importlib.import_module(MODULES[request["case"]]).serve(request, channel)
    except Exception as error:  # the suite goes on without this peer and says why
        import traceback

        traceback.print_exc()
        channel.fail(error)
        sys.exit(1)


main()
