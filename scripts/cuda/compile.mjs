// Compiling one .cu file for one architecture, with a cache: what has not changed is not compiled again.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { root } from '../deps.mjs';
import { NVCC_FLAGS, gencode } from '../nvcc.mjs';
import { sourceDigest } from '../state.mjs';
import { judge } from './judge.mjs';

const HOST_WARNINGS = '-Wall,-Wextra,-Wno-unused-parameter'; // a kernel's host stub uses none of its parameters
const FLAGS = ['--ptxas-options=-v', ...NVCC_FLAGS]; // the package's own folder comes last: no part of the digest

function headers(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((e) =>
    e.isDirectory() ? headers(join(folder, e.name)) : /\.(h|cuh)$/.test(e.name) ? [join(folder, e.name)] : [],
  );
}

/** What every .cu file may include, and what judges it. */
export function commonDigest(version) {
  const relative = (file) => file.slice(root.length);
  const all = [...headers(join(root, 'native/math')), ...headers(join(root, 'native/kernels'))].map(relative);
  return createHash('sha256')
    .update(version)
    .update(FLAGS.slice(0, -1).join(' '))
    .update(sourceDigest([...all, ...['sass', 'judge', 'compile'].map((name) => `scripts/cuda/${name}.mjs`)]))
    .digest('hex');
}

/** Runs a command; { code, output, stdout }. */
export function capture(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data) => (stdout += data));
    child.stderr.on('data', (data) => (stderr += data));
    child.on('error', (error) => resolve({ code: 1, stdout, output: String(error) }));
    child.on('close', (code) => resolve({ code, stdout, output: stdout + stderr }));
  });
}

/** Judged kernels of `file` for `arch`, or { error } when it does not compile. `folder`: where products and the cache go. */
export async function compileFile({ file, arch, tools, folder, common }) {
  const digest = createHash('sha256').update(common).update(readFileSync(file)).digest('hex');
  const stem = join(folder, `${basename(file, '.cu')}.${arch}`);
  if (existsSync(`${stem}.json`) && existsSync(`${stem}.sass`)) {
    const old = JSON.parse(readFileSync(`${stem}.json`, 'utf8'));
    if (old.digest === digest) return { file, arch, cached: true, kernels: old.kernels };
  }
  mkdirSync(folder, { recursive: true });
  // one of the architectures goes through the host compiler as well, for its warnings
  const host = arch === 'sm_80' ? ['-c', '-Xcompiler', HOST_WARNINGS, '-o', `${stem}.o`] : ['-cubin', '-o', `${stem}.cubin`];
  const built = await capture(tools.nvcc, [...FLAGS, ...gencode(arch), ...host, file]);
  if (built.code !== 0) return { file, arch, error: built.output.trim() };
  const listing = await capture(tools.cuobjdump, ['-sass', host.at(-1)]);
  if (listing.code !== 0) return { file, arch, error: `cuobjdump: ${listing.output.trim()}` };
  const kernels = judge(arch, built.output, listing.stdout);
  writeFileSync(`${stem}.sass`, listing.stdout);
  writeFileSync(`${stem}.json`, JSON.stringify({ digest, kernels }, null, 1));
  return { file, arch, cached: false, kernels };
}
