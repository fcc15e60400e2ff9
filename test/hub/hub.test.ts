import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { demoModel } from '../../lib/demo/lesson.js';
import { Policy } from '../../lib/engine/policy.js';
import { parseModelId } from '../../lib/hub/id.js';
import { resolveModel, type DownloadProgress } from '../../lib/hub/resolve.js';
import { hubSettings } from '../../lib/hub/settings.js';
import { COMMIT, stubHub, type Stub } from './stub.js';

const golden = join(__dirname, '..', 'golden', 'models', 'llama');
const model = Object.fromEntries(
  ['config.json', 'generation_config.json', 'model.safetensors'].map((f) => [f, readFileSync(join(golden, f))]),
);
const extra = {
  'README.md': Buffer.from('# hi'),
  'onnx/model.onnx': Buffer.alloc(99),
  'consolidated.safetensors': Buffer.alloc(77),
  'pytorch_model.bin': Buffer.alloc(9),
};
const tokenizer = { 'tokenizer.json': Buffer.from('{"model":{"type":"BPE","vocab":{},"merges":[]}}') };
const index = Buffer.from(JSON.stringify({ weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors' } }));
const shards = {
  'model.safetensors.index.json': index,
  'model-1.safetensors': Buffer.alloc(2e5, 1),
  'model-2.safetensors': Buffer.alloc(1e5, 2),
};

const demoFiles = ['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors'];
const demo = Object.fromEntries(demoFiles.map((f) => [f, readFileSync(join(demoModel(), f))]));

let stub: Stub;
let cache: string;
const caches = mkdtempSync(join(tmpdir(), 'hub '));
beforeAll(async () => {
  stub = await stubHub({
    'org/tiny': { files: { ...model, ...extra } },
    tiny: { files: model },
    'org/sharded': { files: { 'config.json': model['config.json']!, ...tokenizer, ...shards } },
    'org/cut': { files: { ...model, ...tokenizer }, broken: { 'model.safetensors': 'truncated' } },
    'org/short': { files: { ...model, ...tokenizer }, broken: { 'model.safetensors': 'short' } },
    'org/damaged': { files: { ...model, ...tokenizer }, broken: { 'model.safetensors': 'damaged' } },
    'org/gated': { files: model, token: 'hf_good' },
    'org/pickled': { files: { 'config.json': model['config.json']!, 'pytorch_model.bin': Buffer.alloc(9) } },
    'org/demo': { files: demo },
    'org/dataset': { files: { 'train.parquet': Buffer.alloc(9) } },
  });
});
afterAll(async () => {
  await stub.close();
  rmSync(caches, { recursive: true });
});
beforeEach(() => {
  cache = mkdtempSync(join(caches, 'cache-'));
  stub.requests.length = 0;
});

const env = (more: Record<string, string> = {}) => ({ HF_ENDPOINT: stub.url, HF_HUB_CACHE: cache, HF_HOME: cache, ...more });
const events: DownloadProgress[] = [];
const get = (name: string, more: Record<string, string> = {}, signal?: AbortSignal) => {
  events.length = 0;
  return resolveModel(name, { env: env(more), onDownload: (e) => events.push(e), signal });
};

test('a model is fetched once: the files that are read, into the cache of huggingface_hub; then no network is needed', async () => {
  const folder = await get('org/tiny');
  expect(folder).toBe(join(cache, 'models--org--tiny', 'snapshots', COMMIT));
  expect(readdirSync(folder).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors']);
  expect(readFileSync(join(folder, 'model.safetensors'))).toEqual(model['model.safetensors']);
  expect(lstatSync(join(folder, 'model.safetensors')).isSymbolicLink()).toBe(true);
  expect(readFileSync(join(cache, 'models--org--tiny', 'refs', 'main'), 'utf8')).toBe(COMMIT);
  const total = Object.values(model).reduce((n, f) => n + f.length, 0);
  expect(events[0]).toMatchObject({ model: 'org/tiny', revision: 'main', url: stub.url, files: 3, bytes: 0, totalBytes: total });
  expect(events.at(-1)).toMatchObject({ file: 'model.safetensors', bytes: total });
  const asked = stub.requests.length;
  expect(await get('org/tiny')).toBe(folder);
  expect(await get('org/tiny', { HF_HUB_OFFLINE: '1' })).toBe(folder);
  expect(stub.requests.length).toBe(asked);
  expect(events).toEqual([]);
});

test('Policy.load takes an id, a revision and a name without organisation', async () => {
  const saved = { ...process.env };
  try {
    Object.assign(process.env, env());
    for (const name of ['org/tiny', 'tiny', `org/tiny@${COMMIT}`, 'org/tiny@v1']) {
      const policy = await Policy.load(name, { hubUrl: stub.url, onDownload: () => undefined });
      expect(policy.vocabSize).toBe(97);
      expect(policy.path).toContain(COMMIT);
      policy.dispose();
    }
  } finally {
    process.env = saved;
  }
});

test('shards that the index names are fetched; whole weights come last', async () => {
  const folder = await get('org/sharded');
  expect(readdirSync(folder).sort()).toEqual([
    'config.json',
    'model-1.safetensors',
    'model-2.safetensors',
    'model.safetensors.index.json',
    'tokenizer.json',
  ]);
  rmSync(join(folder, 'model-2.safetensors')); // a fetch that was interrupted
  const before = stub.requests.length;
  await get('org/sharded');
  expect(existsSync(join(folder, 'model-2.safetensors'))).toBe(true);
  expect(stub.requests.slice(before).filter((r) => r.includes('/resolve/'))).toEqual([]); // its blob was still there
});

test('weights that Python has fetched without a tokenizer are completed; offline they must do', async () => {
  const repo = join(cache, 'models--org--sharded');
  const folder = await get('org/sharded');
  rmSync(join(folder, 'tokenizer.json'));
  expect(await get('org/sharded', { HF_HUB_OFFLINE: 'true' })).toBe(folder);
  expect(existsSync(join(folder, 'tokenizer.json'))).toBe(false);
  rmSync(join(repo, 'blobs'), { recursive: true });
  mkdirSync(join(repo, 'blobs'));
  symlinkSync('nowhere', join(folder, 'tokenizer.json')); // a broken link is no file
  expect(await get('org/sharded')).toBe(folder);
  expect(readFileSync(join(folder, 'tokenizer.json'))).toEqual(tokenizer['tokenizer.json']);
});

test.each([
  ['org/cut', 'ERR_IO', /^org\/cut: model\.safetensors broke off after \d+ of \d+ bytes; run it again$/],
  ['org/short', 'ERR_IO', /^org\/short: model\.safetensors broke off after \d+ of \d+ bytes; run it again$/],
  ['org/damaged', 'ERR_IO', /org\/damaged: model\.safetensors arrived damaged/],
  ['org/gated', 'ERR_MODEL', /There is no folder org\/gated, and the hub refused it \(401\).*gated or private.*HF_TOKEN/],
  ['org/nothing', 'ERR_MODEL', /There is no folder org\/nothing, and the hub has no model org\/nothing/],
  ['org/tiny@v9', 'ERR_MODEL', /org\/tiny has no revision v9/],
  ['org/pickled', 'ERR_MODEL', /org\/pickled has neither model\.safetensors .*pytorch_model\.bin.*convert/],
  ['org/dataset', 'ERR_MODEL', /org\/dataset has no config\.json/],
])('%s: %s, in plain words, and nothing half-written counts', async (name, code, message) => {
  await expect(get(name)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  const repo = join(cache, `models--${name.split('@')[0]!.replace('/', '--')}`);
  const left = existsSync(repo) ? readdirSync(repo, { recursive: true }).map(String) : [];
  expect(left.filter((f) => f.includes('incomplete') || f.endsWith('model.safetensors') || f.startsWith('refs'))).toEqual([]);
  await expect(get(name, { HF_HUB_OFFLINE: '1' })).rejects.toThrow(/HF_HUB_OFFLINE forbids/);
});

test('a token opens a gated model; a wrong one says what to do', async () => {
  expect(await get('org/gated', { HF_TOKEN: 'hf_good' })).toContain(COMMIT);
  rmSync(join(cache, 'models--org--gated'), { recursive: true });
  await expect(get('org/gated', { HF_TOKEN: 'hf_bad' })).rejects.toThrow(
    /the token in HF_TOKEN has no access to org\/gated.*accept its terms/,
  );
  writeFileSync(join(cache, 'token'), 'hf_good\n');
  expect(await get('org/gated')).toContain(COMMIT);
});

test('no network: one plain sentence', async () => {
  const closed = await stubHub({});
  await closed.close();
  await expect(get('org/tiny', { HF_ENDPOINT: closed.url })).rejects.toMatchObject({
    code: 'ERR_IO',
    message: expect.stringMatching(
      /There is no folder org\/tiny, and http:\/\/127\.0\.0\.1:\d+ cannot be reached \(ECONNREFUSED; looked up\): give the path/,
    ),
  });
});

test('the same model fetched several times at once is whole', async () => {
  const folders = await Promise.all(
    Array.from({ length: 4 }, () => resolveModel('org/sharded', { env: env(), onDownload: () => undefined })),
  );
  expect(new Set(folders).size).toBe(1);
  for (const [name, data] of Object.entries(shards)) expect(readFileSync(join(folders[0]!, name)).equals(data)).toBe(true);
  expect(readdirSync(cache, { recursive: true }).map(String).filter((f) => f.includes('incomplete'))).toEqual([]); // prettier-ignore
});

test('an aborted fetch rejects with the reason and leaves nothing half-written', async () => {
  const controller = new AbortController();
  const reason = new Error('enough');
  const work = resolveModel('org/sharded', {
    env: env(),
    onDownload: (e) => e.file === 'model-1.safetensors' && controller.abort(reason),
    signal: controller.signal,
  });
  await expect(work).rejects.toBe(reason);
  expect(
    readdirSync(cache, { recursive: true })
      .map(String)
      .filter((f) => f.includes('incomplete')),
  ).toEqual([]);
});

test('a folder that exists always wins; what looks like a path is never looked up', async () => {
  const here = process.cwd();
  try {
    process.chdir(cache);
    mkdirSync(join('org', 'tiny'), { recursive: true });
    expect(await get('org/tiny')).toBe('org/tiny');
    for (const path of ['./org/none', '../x', '/x/y', 'a/b/c', 'runs/first/model', '~/model', 'a..b/c', 'model.safetensors', '']) {
      expect(parseModelId(path)).toBeUndefined();
      if (path) expect(await get(path)).toBe(path);
    }
  } finally {
    process.chdir(here);
  }
  expect(stub.requests).toEqual([]);
});

/** The command line in a process of its own (this one serves the hub). */
const cli = (...argv: string[]) =>
  new Promise<{ status: number | null; out: string; err: string }>((done) => {
    const child = spawn(process.execPath, [join(__dirname, '..', '..', 'scripts', 'cli.mjs'), ...argv], {
      env: { ...process.env, ...env() },
    });
    let [out, err] = ['', ''];
    child.stdout.on('data', (data) => (out += String(data)));
    child.stderr.on('data', (data) => (err += String(data)));
    child.on('close', (status) => done({ status, out, err }));
  });

test('the command line: a dry run fetches no weights, generate says what it fetches, and then needs no network', async () => {
  const data = join(cache, 'p.jsonl');
  writeFileSync(data, '{"prompt":"1+1="}\n');
  writeFileSync(join(cache, 'r.mjs'), 'export default ({ completions }) => completions.map(() => 1);');
  const plan = await cli(
    'train',
    '--dry-run',
    '--json',
    '--model',
    'org/demo',
    '--data',
    data,
    '--reward',
    join(cache, 'r.mjs'),
    '--max-completion-length',
    '4',
  );
  expect(plan).toMatchObject({
    status: 0,
    err: expect.stringMatching(/^Fetching org\/demo@main from http:\/\/127\.0\.0\.1:\d+: \d files, 0\.0 MB, into /),
  });
  expect((JSON.parse(plan.out) as { model: { parameters: number } }).model.parameters).toBeGreaterThan(1e5);
  expect(stub.requests.filter((r) => r.endsWith('.safetensors'))).toEqual([]);
  const argv = ['generate', '--model', 'org/demo', '--prompt', '1+1=', '--max-new-tokens', '3', '--temperature', '0'];
  const first = await cli(...argv);
  expect(first).toMatchObject({
    status: 0,
    err: expect.stringMatching(/Fetching org\/demo@main .* 1\.3 MB.*\n[^]*100 % \(1\.3 MB of 1\.3 MB\): model\.safetensors\n$/),
  });
  expect(first.out).toMatch(/^\d+\n$/);
  const asked = stub.requests.length;
  expect(await cli(...argv)).toEqual({ status: 0, out: first.out, err: '' });
  expect(stub.requests.length).toBe(asked);
  const none = await cli('generate', '--model', 'org/nothing', '--prompt', 'x');
  expect(none).toMatchObject({
    status: 2,
    out: '',
    err: expect.stringMatching(/^fused-grpo: --model: there is no folder org\/nothing, and the hub has no model org\/nothing/),
  });
});

test('ids and the variables of huggingface_hub', () => {
  expect(parseModelId('HuggingFaceTB/SmolLM2-135M')).toEqual({ name: 'HuggingFaceTB/SmolLM2-135M', revision: 'main' });
  expect(parseModelId('gpt2@refs/pr/1')).toEqual({ name: 'gpt2', revision: 'refs/pr/1' });
  expect(hubSettings({ HF_HOME: '/h' })).toEqual({ url: 'https://huggingface.co', cache: '/h/hub', offline: false });
  expect(hubSettings({ XDG_CACHE_HOME: '/x', HF_TOKEN: 'hf_a', HF_HUB_OFFLINE: 'ON', HF_ENDPOINT: 'http://m/' })).toEqual({
    url: 'http://m',
    token: 'hf_a',
    cache: '/x/huggingface/hub',
    offline: true,
  });
});
