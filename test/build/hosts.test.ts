// Where the package is loaded: twice in one process, in worker threads, in a bundle, in the jest of a project of one's own.
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { execute, patch, plainEnv, project, type Project } from './installed.js';
import { plant, root, temporary } from './scripts.js';

jest.setTimeout(120_000);

let p: Project;
beforeAll(() => void (p = project()));
afterAll(() => rmSync(dirname(p.app), { recursive: true, force: true }));

test('several loads in one process: two versions of the package, each with its addons, and worker threads', () => {
  const other = project({ version: '9.9.9' });
  for (const name of ['build/Release/core.node', 'build-engine/Release/engine.node'])
    patch(join(other.installed, name), /"version":"\d\.\d\.\d"/, '"version":"9.9.9"');
  symlinkSync(other.installed, join(p.app, 'node_modules/other-grpo'));
  const code = `const a = require('fused-grpo'), b = require('other-grpo'), { join } = require('node:path');
    const demo = join(require.resolve('fused-grpo/package.json'), '../demo/model');
    const said = (work) => { try { work(); } catch (e) { return [e instanceof a.FusedGrpoError, e instanceof b.FusedGrpoError, e instanceof TypeError, e.message]; } };
    const loss = (f, logits) => f.grpoLoss({ logits, vocabSize: 4, targets: new Int32Array(4), rewards: new Float64Array([0, 1]), numGenerations: 2, completionLength: 2 });
    (async () => {
      const policies = await Promise.all([a, b].map((f) => f.Policy.load(demo)));
      const texts = await Promise.all(policies.map(async (q) => (await q.generate(['1+1='], { maxNewTokens: 2, temperature: 0 })).completions[0].text));
      const losses = await Promise.all([a, b].map(async (f) => (await loss(f, f.Tensor.from(new Float32Array(16), [4, 4]))).loss));
      console.log(JSON.stringify({ versions: [a, b].map((f) => f.capabilities().version), texts, losses,
        tensor: said(() => loss(a, b.Tensor.from(new Float32Array(16), [4, 4]))),
        policy: said(() => new a.GRPOTrainer({ model: policies[1], rewardFuncs: () => [], trainDataset: [{ prompt: 'x' }] })),
        error: said(() => b.capabilities().core && b.rewards && (() => { throw new b.FusedGrpoError('ERR_IO', 'm'); })()) }));
    })();`;
  const { out, err } = p.node(code);
  const said = JSON.parse(out || JSON.stringify(err)) as Record<string, unknown[]>;
  expect(said.texts![0]).toMatch(/\d/);
  expect(said).toMatchObject({
    versions: [expect.stringMatching(/^\d/), '9.9.9'],
    texts: [said.texts![0], said.texts![0]],
    losses: [said.losses![0], said.losses![0]],
    tensor: [false, false, true, expect.stringMatching(/received a Tensor of another copy of fused-grpo \(.*\)/)],
    policy: [false, false, true, expect.stringMatching(/received a Policy of another copy of fused-grpo \(.*\)/)],
    error: [true, true, false, 'm'],
  });

  const workers = `const { Worker } = require('node:worker_threads');
    const code = "const f = require('fused-grpo'); const { core, engine } = f.capabilities(); require('node:worker_threads').parentPort.postMessage([core, engine, f.Tensor.from(new Float32Array(3), [3]).length])";
    const one = () => new Promise((done, fail) => new Worker(code, { eval: true }).on('message', done).on('error', fail));
    (async () => { console.log(JSON.stringify([await one(), ...await Promise.all([one(), one()]), require('fused-grpo').capabilities().engine])); })();`;
  expect(JSON.parse(p.node(workers).out)).toEqual([[true, true, 3], [true, true, 3], [true, true, 3], true]);
  rmSync(dirname(other.app), { recursive: true, force: true });
});

describe('bundled by esbuild', () => {
  const source =
    "import { capabilities, groupAdvantages } from 'fused-grpo'; console.log(capabilities().core, capabilities().reasons.core ?? '', typeof groupAdvantages);";
  const bundle = (file: string, format: string, external: string[]) => {
    writeFileSync(join(p.app, 'entry.mjs'), source);
    const options = {
      entryPoints: [join(p.app, 'entry.mjs')],
      bundle: true,
      platform: 'node',
      format,
      external,
      outfile: file,
      logLevel: 'silent',
    };
    const esbuild = `require('esbuild').buildSync(${JSON.stringify(options)})`;
    expect(p.node(esbuild).err).toBe('');
    return p.node(`import(${JSON.stringify(file)})`, { cwd: '/' });
  };
  test('as an external package: it works', () => {
    for (const [format, name] of [
      ['cjs', 'out/external.cjs'],
      ['esm', 'out/external.mjs'],
    ] as const)
      expect(bundle(join(p.app, name), format, ['fused-grpo'])).toMatchObject({ out: 'true  function\n', code: 0 });
  });
  test('into the bundle: it works where the package is installed, and says what to do where it is not', () => {
    expect(bundle(join(p.app, 'out/inlined.cjs'), 'cjs', [])).toMatchObject({ out: 'true  function\n' });
    const { out } = bundle(join(temporary(), 'inlined.cjs'), 'cjs', []);
    expect(out).toMatch(/^false The folder of fused-grpo was not found .*it was bundled.*--external:fused-grpo.* function\n$/);
  });
});

describe('in the jest of a project', () => {
  const body = `
    const logits = new Float32Array(16);
    const batch = { logits, vocabSize: 4, targets: new Int32Array(4), rewards: new Float64Array([0, 1]), numGenerations: 2, completionLength: 2 };
    expect(Number.isFinite(fused.grpoLoss(batch).loss)).toBe(true);
    expect(() => fused.groupAdvantages([1], { numGenerations: 2 })).toThrow(/numGenerations/);
    const { advantages } = fused.groupAdvantages([0, 1], { numGenerations: 2, scaleRewards: 'none' });
    expect(advantages).toBeInstanceOf(Float32Array);
    expect(advantages).toStrictEqual(Float32Array.of(-0.5, 0.5));
    expect(fused.gae({ rewards: advantages, values: advantages, completionLength: 1 })).toStrictEqual({
      advantages: new Float32Array(2), returns: Float32Array.of(-0.5, 0.5) });
    expect(() => fused.grpoLoss({ ...batch, targets: Int32Array.of(0, 9, 0, 0) })).toThrow(RangeError);
    const policy = await fused.Policy.load(process.env.DEMO);
    const { completions } = await policy.generate(['1+1='], { maxNewTokens: 2, temperature: 0 });
    expect(completions[0].text).toMatch(/\\d/);
    expect(completions[0].tokens).toBeInstanceOf(Int32Array);
    expect(completions[0].logps).toBeInstanceOf(Float32Array);
    const { logps } = await policy.score(['1+1='], completions);
    expect(logps).toStrictEqual([expect.any(Float32Array)]);
    expect(await fused.Tensor.from(logits, [16]).toArray()).toStrictEqual(logits);
    let seen;
    const reward = ({ completionTokens, extra }) => ((seen = [completionTokens[0], extra[0]]), completionTokens.map((_, i) => i));
    const config = { maxSteps: 1, perDeviceTrainBatchSize: 2, numGenerations: 2, maxCompletionLength: 2 };
    const trainer = new fused.GRPOTrainer({ model: policy, rewardFuncs: reward, trainDataset: [{ prompt: '1+1=', extra: { a: [1] } }], config });
    await trainer.train();
    expect(seen[0]).toBeInstanceOf(Int32Array);
    expect(seen[1]).toStrictEqual({ a: [1] });
    policy.dispose();
    await expect(policy.generate(['1'])).rejects.toThrow(fused.FusedGrpoError);`;
  const jestIn = (folder: string, flags: string[]) => {
    const args = [...flags, join(root, 'node_modules/jest/bin/jest.js'), '--rootDir', folder, '--runInBand', '--json'];
    const env = { ...plainEnv(), DEMO: join(p.installed, 'demo/model') };
    const { out, err } = execute(process.execPath, args, { cwd: folder, env });
    const { numPassedTests, numFailedTests } = JSON.parse(out || '{}') as Record<string, number>;
    return { passed: numPassedTests, failed: numFailedTests, err: numFailedTests === 0 && numPassedTests! > 0 ? '' : err };
  };
  test('CommonJS, with modules loaded anew for every test: the addons are loaded several times', () => {
    const folder = plant(join(p.app, 'cjs'), {
      'package.json': '{}',
      'a.test.js': `beforeEach(() => jest.resetModules());\n${[1, 2, 3].map((n) => `test('${n}', async () => { const fused = require('fused-grpo');${body} });`).join('\n')}`,
      'b.test.js': `const first = require('fused-grpo'); jest.resetModules(); const again = require('fused-grpo');
        test('errors', () => { expect(first).not.toBe(again); expect(new first.FusedGrpoError('ERR_IO', 'm')).toBeInstanceOf(again.FusedGrpoError); });`,
    });
    expect(jestIn(folder, [])).toEqual({ passed: 4, failed: 0, err: '' });
  });
  test('ES modules', () => {
    const folder = plant(join(p.app, 'esm'), {
      'package.json': '{ "type": "module", "jest": { "transform": {} } }',
      'a.test.js': `import * as fused from 'fused-grpo';\nimport { expect, test } from '@jest/globals';\ntest('1', async () => {${body} });`,
    });
    expect(jestIn(folder, ['--experimental-vm-modules'])).toEqual({ passed: 1, failed: 0, err: '' });
  });
});
