// The tarball installed by every package manager and loaded by every Node.js that is supported: FUSED_GRPO_SLOW_TESTS=1 runs it (the
// tools come from npm). One tarball as it is built from a checkout, and one with prebuilt addons: the files that are built here, so
// that the core is compiled only where compiling is what is tried, and the engine never.
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { execute, pack, plainEnv } from './installed.js';
import { evaluate, plant, root, temporary } from './scripts.js';

const slow = Boolean(process.env.FUSED_GRPO_SLOW_TESTS);
const slowly = slow ? describe : describe.skip;
jest.setTimeout(300_000);

const folder = temporary();
const tools = join(folder, 'tools');
const torch = (
  evaluate('libtorch.mjs', 'm.locateLibtorch()', process.env.LIBTORCH ? { LIBTORCH: process.env.LIBTORCH } : {}) as {
    folder: string;
  } | null
)?.folder;
const TOOLS = ['pnpm@12', 'yarn@1.22.22', '@yarnpkg/cli-dist@4.18.1', 'webpack@5', 'node-22@npm:node@22', 'node-24@npm:node@24'];
const tool = {
  pnpm: join(tools, 'node_modules/pnpm/bin/pnpm.mjs'),
  yarn: join(tools, 'node_modules/yarn/bin/yarn.js'),
  berry: join(tools, 'node_modules/@yarnpkg/cli-dist/bin/yarn.js'),
};
let plain: string;
let prebuilt: string;
let registry: string;

/** A project's folder, with commands that run in it. The machine's own settings of package managers play no part, except the registry. */
function app(name: string, files: Record<string, string> = {}) {
  const cwd = plant(join(folder, `${name} é`), { 'package.json': '{"name":"app","private":true}', ...files });
  const env = {
    ...plainEnv(),
    ...{ npm_config_registry: registry, YARN_NPM_REGISTRY_SERVER: registry, YARN_UNSAFE_HTTP_WHITELIST: '*', YARN_ENABLE_TELEMETRY: '0' },
    ...{
      YARN_ENABLE_GLOBAL_CACHE: 'false',
      YARN_ENABLE_IMMUTABLE_INSTALLS: 'false',
      LIBTORCH: torch ?? '',
      FORCE_COLOR: '0',
      NO_COLOR: '1',
    },
  };
  const run = (command: string, ...args: string[]) => {
    const { code, out, err } = execute(command, args, { cwd, env });
    return { code, said: out + err };
  };
  return { cwd, run, node: (...args: string[]) => run(process.execPath, ...args) };
}
const npmInstall = ['install', '--no-audit', '--no-fund', '--prefer-offline'];

beforeAll(() => {
  if (!slow) return;
  registry = execute('npm', ['config', 'get', 'registry'], { cwd: folder, env: plainEnv() }).out.trim();
  plain = pack(folder).tarball;
  mkdirSync(join(folder, 'unpacked'));
  execute('tar', ['xf', plain, '-C', join(folder, 'unpacked')], {});
  const inside = join(folder, 'unpacked/package');
  const collect = `import { collect } from ${JSON.stringify(pathToFileURL(join(root, 'scripts/prebuilds.mjs')).href)}; collect(['core', 'engine'], ${JSON.stringify(join(inside, `prebuilds/${process.platform}-${process.arch}`))});`;
  expect(execute(process.execPath, ['--input-type=module', '-e', collect], { env: plainEnv() }).code).toBe(0);
  mkdirSync(join(folder, 'prebuilt'));
  prebuilt = pack(join(folder, 'prebuilt'), inside).tarball;
  plant(tools, { 'package.json': '{"private":true}' });
  // the node packages fetch their binary as a dependency: their install scripts only move it
  const { code, said } = app('tools at').run('npm', ...npmInstall, '--prefix', tools, ...TOOLS);
  if (code !== 0) throw new Error(said);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ASK =
  "const { core, engine, reasons, version, node } = require('fused-grpo').capabilities(); console.log(JSON.stringify({ core, engine, reasons, node }));";
const answer = ({ said }: { said: string }): unknown =>
  JSON.parse(
    said
      .trim()
      .split('\n')
      .find((l) => l.startsWith('{')) ?? JSON.stringify(said),
  );
const both = { core: true, engine: true };
const none = (command: string) => ({
  core: false,
  reasons: {
    core: expect.stringContaining(`is not built: package managers skip install scripts unless they are allowed. Run: ${command}`),
  },
});

slowly('npm', () => {
  test('with install scripts the core is built; without them nothing is, and the import says what to do', () => {
    const { cwd, run, node } = app('npm');
    expect(run('npm', ...npmInstall, '--ignore-scripts', plain)).toMatchObject({ code: 0 });
    expect(answer(node('-e', ASK))).toMatchObject(none('npx fused-grpo build'));
    run('npm', 'install-scripts', 'approve', 'fused-grpo'); // older versions of npm neither know nor need it
    expect(run('npm', 'rebuild', '--foreground-scripts').said).toContain('Building the core addon');
    expect(answer(node('-e', ASK))).toMatchObject({ core: true, engine: false });
    expect(existsSync(join(cwd, 'node_modules/fused-grpo/build/Release/core.node'))).toBe(true);
  });
  test('with prebuilt addons everything is there at once, scripts or not', () => {
    const { node, run } = app('npm prebuilt');
    expect(run('npm', ...npmInstall, '--ignore-scripts', prebuilt)).toMatchObject({ code: 0 });
    expect(answer(node('-e', ASK))).toMatchObject(both);
    expect(run('npx', 'fused-grpo', 'build').said).toMatch(
      /Using the prebuilt core: .*\nUsing the prebuilt engine: .*\nEverything is up to date\./,
    );
    expect(run('npx', 'fused-grpo', 'doctor')).toMatchObject({ code: 0, said: expect.stringContaining('All is well') });
  });
  test.each(['22', '24'])('Node.js %s trains with the addons that were built here', (version) => {
    const binary = join(tools, `node_modules/node-${version}/bin/node`);
    const { run, cwd } = app('npm prebuilt');
    const train = `const { GRPOTrainer, capabilities } = await import('fused-grpo'); const model = ${JSON.stringify(join(cwd, 'node_modules/fused-grpo/demo/model'))};
      const config = { numGenerations: 2, perDeviceTrainBatchSize: 2, maxCompletionLength: 3, maxSteps: 1, outputDir: ${JSON.stringify(join(folder, `run ${version}`))} };
      const trainer = new GRPOTrainer({ model, rewardFuncs: ({ completions }) => completions.map((c) => c.length), trainDataset: [{ prompt: '1+1=' }, { prompt: '2+2=' }], config });
      for await (const { metrics } of trainer) console.log(JSON.stringify({ node: capabilities().node, loss: Number.isFinite(metrics.loss) }));`;
    expect(answer(run(binary, '--input-type=module', '-e', train))).toEqual({ node: expect.stringMatching(`^v${version}\\.`), loss: true });
    const worker = `const { Worker } = require('node:worker_threads'); new Worker(${JSON.stringify(ASK)}, { eval: true });`;
    expect(answer(run(binary, '-e', worker))).toMatchObject(both);
  });
  test('webpack: external it works; bundled it finds the installed package', () => {
    const { cwd, run, node } = app('npm prebuilt');
    plant(cwd, { 'src/index.js': ASK });
    const webpack = (externals: object, name: string) => {
      const options = {
        mode: 'production',
        target: 'node',
        context: cwd,
        entry: './src/index.js',
        externals,
        output: { path: join(cwd, 'dist'), filename: name },
      };
      const build = `require(${JSON.stringify(join(tools, 'node_modules/webpack'))})(${JSON.stringify(options)}, (e, stats) => { const { errors } = stats.toJson({ all: false, errors: true }); if (e || errors.length) { console.log(e, errors); process.exitCode = 1; } });`;
      expect(run(process.execPath, '-e', build)).toEqual({ code: 0, said: '' });
      return answer(node(join(cwd, 'dist', name)));
    };
    expect(webpack({ 'fused-grpo': 'commonjs fused-grpo' }, 'external.cjs')).toMatchObject(both);
    expect(webpack({}, 'inlined.cjs')).toMatchObject(both);
  });
});

slowly('pnpm', () => {
  test('blocks install scripts: the import names its commands, and both work', () => {
    const { run, node } = app('pnpm');
    const pnpm = (...args: string[]) => run(process.execPath, tool.pnpm, ...args);
    // docs/install.md says so: the package is there all the same
    expect(pnpm('add', plain)).toMatchObject({
      code: 1,
      said: expect.stringMatching(/ERR_PNPM_IGNORED_BUILDS[^]*Ignored build scripts: fused-grpo/),
    });
    expect(answer(node('-e', ASK))).toMatchObject(none('pnpm exec fused-grpo build, or pnpm approve-builds'));
    const approved = pnpm('approve-builds', '--all');
    expect(approved).toMatchObject({ code: 0, said: expect.stringContaining('Building the core addon') });
    expect(answer(node('-e', ASK))).toMatchObject({ core: true });
    expect(pnpm('exec', 'fused-grpo', 'build', 'core').said).toContain('Everything is up to date.');
    expect(pnpm('exec', 'fused-grpo', 'doctor').said).toMatch(/✔ npm packages +installed[^]*✔ core +built with/);
  });
});

slowly('yarn', () => {
  test('classic', () => {
    const { run, node } = app('yarn');
    expect(run(process.execPath, tool.yarn, 'add', prebuilt)).toMatchObject({ code: 0 });
    expect(answer(node('-e', ASK))).toMatchObject(both);
    expect(run(process.execPath, tool.yarn, '-s', 'fused-grpo', 'doctor').said).toContain('All is well');
  });
  test('berry with node_modules', () => {
    const { run, node } = app('berry', { 'yarn.lock': '', '.yarnrc.yml': 'nodeLinker: node-modules\n' });
    expect(run(process.execPath, tool.berry, 'add', `fused-grpo@file:${prebuilt}`)).toMatchObject({ code: 0 });
    expect(answer(node('-e', ASK))).toMatchObject(both);
  });
  test("berry with Plug'n'Play: the package is unplugged; building works there, and both kinds of import", () => {
    const { run, cwd } = app('pnp', { 'yarn.lock': '', '.yarnrc.yml': 'nodeLinker: pnp\n' });
    const yarn = (...args: string[]) => run(process.execPath, tool.berry, ...args);
    expect(yarn('add', `fused-grpo@file:${plain}`)).toMatchObject({ code: 0 });
    expect(answer(yarn('node', '-e', ASK))).toMatchObject(none('yarn fused-grpo build'));
    expect(readFileSync(join(cwd, '.pnp.cjs'), 'utf8')).toContain('.yarn/unplugged/fused-grpo');
    expect(yarn('fused-grpo', 'build', 'core').said).toContain('Built.');
    writeFileSync(
      join(cwd, 'a.mjs'),
      "import { groupAdvantages } from 'fused-grpo'; console.log(JSON.stringify({ core: groupAdvantages([1, 0], { numGenerations: 2 }).advantages.length }));",
    );
    expect(answer(yarn('node', 'a.mjs'))).toEqual({ core: 2 });
    expect(yarn('fused-grpo', 'doctor').said).toMatch(/✔ npm packages +installed[^]*✔ core +built with/);
  });
});
