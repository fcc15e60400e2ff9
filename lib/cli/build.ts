import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import { packageRoot } from '../native.js';
import type { Command } from './command.js';
import { EXIT } from './errors.js';
import type { FlagTable, FlagValues } from './options.js';

const ownFlags: FlagTable = {
  torch: {
    type: 'string',
    valueName: 'DIR',
    description: "Build the engine with this libtorch (else LIBTORCH, else one fetched by pip into the package's folder)",
  },
  force: { type: 'boolean', description: 'Build even when nothing has changed' },
};

const PARTS = ['core', 'engine'];

// scripts/cli.mjs hands `build` straight to scripts/build.mjs, which must work before anything is compiled; this entry serves --help and callers of runCli.
async function run(values: FlagValues): Promise<number> {
  const parts = (values._ as string[] | undefined) ?? [];
  const odd = parts.find((part) => !PARTS.includes(part));
  if (odd !== undefined)
    throw new FusedGrpoError('ERR_INVALID_ARG', `Unknown part '${odd}' of build; the parts are ${PARTS.join(' and ')}`);
  const torch = typeof values.torch === 'string' ? ['--torch', values.torch] : [];
  const args = [
    join(packageRoot, 'scripts', 'build.mjs'),
    ...(parts.length ? parts : ['native']),
    ...torch,
    ...(values.force ? ['--force'] : []),
  ];
  return spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? EXIT.failed;
}

export const buildCommand: Command = {
  name: 'build',
  summary: 'build the native parts: core (handwritten kernels) and engine (on libtorch)',
  usage: '[core] [engine] [--torch DIR] [--force]',
  examples: ['npx fused-grpo build', 'npx fused-grpo build engine --torch /opt/libtorch'],
  notes: [
    'Needs g++ 11 or newer and make; Python 3 with pip where libtorch has to be fetched (about 1.3 GB, once). What is up to date is left alone.',
  ],
  flags: () => ownFlags,
  positionals: true,
  run,
};
