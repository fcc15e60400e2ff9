"""torchrun starts `npx fused-grpo train` as it stands: the same weights as by `launch`, and an elastic restart goes on from the checkpoint."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
CLI = os.path.join(ROOT, "scripts", "cli.mjs")

GOOD = "export default ({ completions }) => completions.map((c) => c.length);"
ONCE = """import { existsSync, writeFileSync } from 'node:fs';
export default ({ completions, trainerState }) => {
  if (process.env.RANK === '1' && trainerState.step === 3 && !existsSync('%s')) {
    writeFileSync('%s', '');
    process.kill(process.pid, 'SIGKILL');
  }
  return completions.map((c) => c.length);
};"""


class Torchrun(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fg-torchrun-")
        self.data = self.write("prompts.jsonl", "\n".join(json.dumps({"prompt": f"{i}+1="}) for i in range(12)))

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def train(self, launcher, output, reward, *more):
        command = [*launcher, "train", "--model", os.path.join(ROOT, "demo", "model"), "--data", self.data, "--reward", reward]
        command += ["--output", output, "--max-steps", "6", "--per-device-train-batch-size", "8", "--num-generations", "4"]
        command += ["--max-completion-length", "8", "--save-steps", "1", "--ddp-timeout", "10", *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=self.folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr

    def torchrun(self, *options):
        return [sys.executable, "-m", "torch.distributed.run", "--no-python", "--standalone", "--nproc-per-node", "2", *options, "node", CLI]

    def weights(self, output):
        with open(os.path.join(output, "model", "model.safetensors"), "rb") as file:
            return file.read()

    def test_same_as_launch(self):
        reward = self.write("good.mjs", GOOD)
        one, two = (os.path.join(self.folder, name) for name in ("torchrun", "launch"))
        said = self.train(self.torchrun(), one, reward)
        self.assertEqual(said.count("Done: "), 1, said)
        self.train(["node", CLI, "launch", "--nproc", "2", "--"], two, reward)
        self.assertEqual(self.weights(one), self.weights(two))

    def test_elastic_restart(self):
        mark = os.path.join(self.folder, "died")
        reward = self.write("once.mjs", ONCE % (mark, mark))
        output = os.path.join(self.folder, "elastic")
        said = self.train(self.torchrun("--max-restarts", "1"), output, reward, "--resume", "auto")
        self.assertIn("Going on after step 3", said)
        with open(os.path.join(output, "metrics.jsonl")) as file:
            self.assertEqual([json.loads(line)["step"] for line in file], [1, 2, 3, 4, 5, 6])


if __name__ == "__main__":
    unittest.main()
