// The Python examples' tests, against TRL, and training under torchrun: node scripts/test-python.mjs [--measure] [unittest arguments]
// The Python is FUSED_GRPO_PEERS_PYTHON, else one that has TRL, else pinned versions are installed by pip into a private folder, once, as
// `bench --with-peers` does. --measure: prints loss phase and memory of FusedGRPOTrainer and of TRL's GRPOTrainer instead.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { buildCapi } from './build-capi.mjs';
import { buildTypeScript } from './build.mjs';
import { root } from './deps.mjs';
import { runAsCommand } from './run.mjs';

const log = (text) => process.stderr.write(text + '\n');

await runAsCommand(import.meta.url, async (argv) => {
  buildTypeScript();
  const library = buildCapi();
  const { peersPython } = createRequire(import.meta.url)(join(root, 'dist/cjs/bench/peers/python.js'));
  const { python, versions } = await peersPython({ env: process.env, log });
  log(`python ${versions.python}, torch ${versions.torch}, transformers ${versions.transformers}, trl ${versions.trl}`);
  const env = {
    ...process.env,
    FUSED_GRPO_LIBRARY: library,
    OMP_WAIT_POLICY: process.env.OMP_WAIT_POLICY ?? 'PASSIVE', // threads that spin suffer from company
    PYTHONWARNINGS: 'ignore::FutureWarning',
    TRANSFORMERS_VERBOSITY: 'error',
    HF_HUB_OFFLINE: '1',
  };
  const measure = argv[0] === '--measure';
  const files = measure ? ['measure.py'] : ['test_trl.py', ...(argv.length > 0 ? [] : ['test_torchrun.py'])];
  for (const file of files) {
    const args = [join(root, 'test/python', file), ...argv.slice(measure ? 1 : 0)];
    const status = spawnSync(python, args, { env, stdio: 'inherit' }).status ?? 1;
    process.exitCode ||= status;
  }
});
