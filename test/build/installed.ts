// A project with this package in its node_modules, without a package manager: what ships is copied, its dependencies are linked, and
// the addons are those that are built here. For tests of loading; test/build/package.test.ts and managers.test.ts install truly.
import { spawnSync, type SpawnSyncOptions } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, temporary } from './scripts.js';

const SHIPPED = ['dist', 'native', 'scripts', 'binding.gyp', 'CMakeLists.txt', 'package.json', 'demo/model'];
const BUILT = ['build/Release/core.node', 'build/core.json', 'build-engine/Release/engine.node', 'build-engine/engine.json'];

/** Copies the addons that are built here, and where the engine's libtorch lies. */
export function copyBuilt(installed: string, files = BUILT): void {
  for (const name of files) cpSync(join(root, name), join(installed, name), { recursive: true });
  if (existsSync(join(root, '.deps')) && !existsSync(join(installed, '.deps'))) symlinkSync(join(root, '.deps'), join(installed, '.deps'));
}

export interface Project {
  /** The project's folder: it has a space and a letter outside ASCII. */
  app: string;
  installed: string;
  node(code: string, more?: NodeRun): Outcome;
  cli(...args: string[]): Outcome;
}
interface NodeRun {
  env?: Record<string, string>;
  flags?: string[];
  module?: boolean;
  cwd?: string;
}
interface Outcome {
  code: number | null;
  out: string;
  err: string;
}

/** npm's settings and the tests' own choices must neither help nor hinder. */
export const plainEnv = (): Record<string, string> =>
  Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] => entry[1] !== undefined && !/^npm_|^FUSED_GRPO_(CORE|ENGINE|DEPS)$|^LIBTORCH$/i.test(entry[0]),
    ),
  );

export function execute(command: string, args: string[], options: SpawnSyncOptions): Outcome {
  const result = spawnSync(command, args, { maxBuffer: 1 << 26, ...options, encoding: 'utf8' });
  if (result.error) throw result.error;
  return { code: result.status, out: result.stdout, err: result.stderr };
}

/** `built`: with the addons of this checkout. `version`: another than this one's, in its package.json. */
export function project({ built = true, version = '', app = join(temporary(), 'my app') } = {}): Project {
  const modules = join(app, 'node_modules');
  const installed = join(modules, 'fused-grpo');
  for (const name of SHIPPED) cpSync(join(root, name), join(installed, name), { recursive: true });
  for (const name of readdirSync(join(root, 'node_modules')).filter((n) => !n.startsWith('.')))
    symlinkSync(join(root, 'node_modules', name), join(modules, name));
  if (built) copyBuilt(installed);
  if (version) {
    const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as object;
    writeFileSync(join(installed, 'package.json'), JSON.stringify({ ...manifest, version }));
  }
  mkdirSync(app, { recursive: true });
  writeFileSync(join(app, 'package.json'), '{"name":"app","private":true}');
  const run = (args: string[], { env = {}, cwd = app }: NodeRun = {}) =>
    execute(process.execPath, args, { cwd, env: { ...plainEnv(), FORCE_COLOR: '0', ...env } });
  return {
    app,
    installed,
    node: (code, more = {}) => run([...(more.flags ?? []), `--input-type=${more.module ? 'module' : 'commonjs'}`, '-e', code], more),
    cli: (...args) => run([join(installed, 'scripts/cli.mjs'), ...args]),
  };
}

/** Replaces text in a binary file by text of the same length. */
export function patch(file: string, from: string | RegExp, to: string): void {
  const text = readFileSync(file, 'latin1');
  const found = typeof from === 'string' ? from : from.exec(text)?.[0];
  if (!found || found.length !== to.length) throw new Error(`${file}: ${String(from)} is not there, or not as long as ${to}`);
  writeFileSync(file, text.replaceAll(found, to), 'latin1');
}

/** `npm pack` of this checkout, whose dist/ is built (pretest), or of another folder: the tarball and the names of its files. */
export function pack(folder: string, from = root): { tarball: string; files: string[] } {
  // --ignore-scripts keeps prepack from building dist/ again under the other tests' feet
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder];
  const packed = execute('npm', args, { cwd: from, env: plainEnv() });
  if (packed.code !== 0) throw new Error(packed.err);
  const told = JSON.parse(packed.out) as object; // a list, or by name in newer versions of npm
  const [{ filename, files }] = Object.values(told) as [{ filename: string; files: { path: string }[] }];
  return { tarball: join(folder, filename), files: files.map((f) => f.path).sort() };
}
