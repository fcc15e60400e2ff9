// Compiles every CUDA kernel for every architecture and judges what came out: node scripts/cuda-compile.mjs [--json] [FILE.cu ...]
// Needs no GPU. A check is one kernel on one architecture; the last line is `N passed, N failed`.
import { existsSync, readdirSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { root } from './deps.mjs';
import { commonDigest, compileFile } from './cuda/compile.mjs';
import { ARCHITECTURES, findDisassembler, findNvcc } from './nvcc.mjs';
import { inParallel, runAsCommand } from './run.mjs';

const kernelFolder = join(root, 'native/kernels/cuda');

/** Compiles and judges; one entry per file and architecture. */
export async function compileAll({ files, architectures = ARCHITECTURES, folder = join(root, 'build-cuda'), log } = {}) {
  const found = findNvcc(log);
  const tools = { nvcc: found.nvcc, cuobjdump: findDisassembler(found, log) };
  const common = commonDigest(found.version);
  const all = files ?? sources();
  const jobs = all.flatMap((file) => architectures.map((arch) => ({ file, arch, tools, folder, common })));
  return inParallel(jobs, 2, compileFile);
}

function sources() {
  if (!existsSync(kernelFolder)) return [];
  return readdirSync(kernelFolder)
    .filter((name) => name.endsWith('.cu'))
    .sort()
    .map((name) => join(kernelFolder, name));
}

const hot = (kernel) => kernel.parts.map((p) => p.instructions).join(' + ') || '-';

function printTable(kernels) {
  const rows = [
    ['kernel', 'arch', 'registers', 'shared', 'spills', 'over the vocabulary'],
    ...kernels.map((k) => [k.name, k.arch, k.registers, k.shared, k.spillStores + k.spillLoads, hot(k)]),
  ].map((row) => row.map(String));
  const width = rows[0].map((_, c) => Math.min(70, Math.max(...rows.map((r) => r[c].length))));
  for (const row of rows) console.log(row.map((cell, c) => (c < 2 ? cell.padEnd(width[c]) : cell.padStart(width[c]))).join('  '));
}

function report(results) {
  const kernels = results.flatMap((r) => r.kernels ?? []);
  const broken = results.filter((r) => r.error);
  const bad = kernels.filter((k) => k.faults.length);
  if (kernels.length) printTable(kernels);
  for (const r of broken) console.log(`FAILED ${basename(r.file)} for ${r.arch}: does not compile\n${r.error}`);
  for (const k of bad) console.log(`FAILED ${k.name} on ${k.arch}: ${k.faults.join('; ')}`);
  const failed = bad.length + broken.length;
  console.log(`cuda:compile: ${kernels.length - bad.length} passed, ${failed} failed`);
  return failed;
}

async function main(argv) {
  const files = argv.filter((a) => !a.startsWith('--')).map((f) => resolve(f));
  const results = await compileAll({ files: files.length ? files : undefined });
  const failed = argv.includes('--json')
    ? (console.log(JSON.stringify({ results }, null, 1)), results.filter((r) => r.error || r.kernels.some((k) => k.faults.length)).length)
    : report(results);
  const nothing = results.length === 0;
  if (nothing) console.error('No .cu file under native/kernels/cuda.');
  process.exitCode = failed || nothing ? 1 : 0;
}

await runAsCommand(import.meta.url, main);
