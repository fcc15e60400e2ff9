// Addons for other machines: node scripts/prebuilds.mjs [core] [engine] [--torch DIR] [--package DIR]
// Writes prebuilds/<platform>-<processor>/ with a manifest; `npm pack` ships it, and installing then compiles nothing where one fits
// (scripts/addons/lookup.cjs). With --package DIR it goes into a package of its own, for one platform, to be published beside this one.
// A file's needs are those of the machine it is built on: release builds belong on the oldest system that is to be served.
// (The npm script is not named prebuild: npm would run it before every `npm run build`.)
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import addons from './addons/index.cjs';
import { buildCore, buildEngine, withLock } from './build.mjs';
import { SetupError } from './deps.mjs';
import { PRODUCTS, readStamp } from './state.mjs';
import { runAsCommand } from './run.mjs';

const log = (text) => process.stderr.write(text + '\n');

/** e.g. engine.napi9.glibc.torch-2.15.0.node: the tags are for people; the manifest is what is read. */
const fileName = ({ addon, napi, libc, torch }) => `${[addon, `napi${napi}`, libc, ...(torch ? [`torch-${torch}`] : [])].join('.')}.node`;

/** Copies a built addon into the folder and returns its entry for the manifest. */
function take(name, folder) {
  const { file, stamp } = PRODUCTS[name];
  const { identity } = addons.inspectBinary(file);
  const target = join(folder, fileName(identity));
  copyFileSync(file, `${target}.part`);
  if (spawnSync('strip', ['--strip-unneeded', `${target}.part`]).status !== 0) log('strip was not found: the file keeps its symbols.');
  chmodSync(`${target}.part`, 0o644);
  renameSync(`${target}.part`, target);
  const data = readFileSync(target);
  const { needs } = addons.inspectBinary(target);
  return {
    ...{ file: fileName(identity), ...identity, glibc: needs.GLIBC ?? null, glibcxx: needs.GLIBCXX ?? null },
    compiler: readStamp(stamp).settings.compiler,
    size: data.length,
    sha256: createHash('sha256').update(data).digest('hex'),
  };
}

function platformPackage(folder, entries) {
  const [os, cpu] = addons.platform.split('-');
  const manifest = {
    name: `fused-grpo-${addons.platform}`,
    version: addons.version,
    description: `Prebuilt addons of fused-grpo for ${addons.platform}`,
    license: 'Apache-2.0',
    os: [os],
    cpu: [cpu],
    ...(entries.every((e) => e.libc === entries[0].libc) ? { libc: [entries[0].libc] } : {}),
    preferUnplugged: true,
    files: ['prebuilds'],
  };
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest, null, 2) + '\n');
}

function parse(argv) {
  const out = { parts: [], torch: undefined, folder: undefined };
  for (let i = 0; i < argv.length; ++i) {
    if (argv[i] === '--torch' || argv[i] === '--package') {
      const value = argv[++i];
      if (!value) throw new SetupError(`${argv[i - 1]} needs a folder.`, 'name one');
      if (argv[i - 1] === '--torch') out.torch = value;
      else out.folder = resolve(value);
    } else if (['core', 'engine'].includes(argv[i])) out.parts.push(argv[i]);
    else throw new SetupError(`Unknown word '${argv[i]}'.`, 'use [core] [engine] [--torch DIR] [--package DIR]');
  }
  return { ...out, parts: out.parts.length ? out.parts : ['core', 'engine'] };
}

/** Collects the addons that are built here into `folder`, with their manifest; no file stays there without an entry. */
export function collect(parts, folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const entries = parts.map((name) => take(name, folder));
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ version: addons.version, addons: entries }, null, 2) + '\n');
  return entries;
}

export function makePrebuilds(argv) {
  const { parts, torch, folder = addons.root } = parse(argv);
  const target = join(folder, 'prebuilds', addons.platform);
  withLock(() => {
    if (parts.includes('core')) buildCore(false, true);
    if (parts.includes('engine')) buildEngine(false, torch, true);
    const entries = collect(parts, target);
    if (folder !== addons.root) platformPackage(folder, entries);
    for (const { file, size, glibc, glibcxx } of entries)
      log(`${join(target, file)}  ${(size / 1e6).toFixed(1)} MB  glibc ${glibc}${glibcxx ? `, GLIBCXX ${glibcxx}` : ''}`);
  });
}

runAsCommand(import.meta.url, makePrebuilds);
