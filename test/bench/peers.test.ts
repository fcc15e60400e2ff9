import { afterEach, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { delimiter, join } from 'node:path';
import { Others, doubt } from '../../lib/bench/peers/others.js';
import { measureWithPeers } from '../../lib/bench/peers/peers.js';
import { peersFolder, peersPython, PACKAGES } from '../../lib/bench/peers/python.js';
import { PeerFailure, PeerWorker } from '../../lib/bench/peers/worker.js';
import { packageRoot } from '../../lib/native.js';
import { fakePython, fixtures, newFolder, peersOf, setting, versions, type Setting } from './stand-in.js';

const workers: PeerWorker[] = [];
function worker(way: string, options: { timeout?: number; signal?: AbortSignal } = {}): PeerWorker {
  const made = new PeerWorker({ file: fakePython, args: ['worker'], env: setting(way).env }, options);
  workers.push(made);
  return made;
}
afterEach(() => Promise.all(workers.splice(0).map((w) => w.close())));

test('a worker answers one request after the other and ends with its input', async () => {
  const { env, lines } = setting('good');
  const w = new PeerWorker({ file: fakePython, args: ['worker'], env });
  expect(await w.request({ op: 'load', case: 'step', threads: 2 })).toEqual({ id: 1 });
  expect(await w.request({ op: 'run' })).toMatchObject({ id: 2, seconds: 4 });
  expect(await w.request({ op: 'run' })).toMatchObject({ id: 3 });
  await w.close();
  expect(lines()).toEqual(['load plain step 2 undefined -', 'run plain', 'run plain', 'end']);
});

test.each([
  ['dies', /its process ended \(exit code 3\): MemoryError: too large$/],
  ['killed', /its process ended \(SIGSEGV\)$/],
  ['garbage', /its answer makes no sense: Loading weights: 100%$/],
  ['other id', /its answer makes no sense: {"id": 99}$/],
  ['null', /its answer makes no sense: null$/],
  ['silent', /it did not answer within 0\.5 s$/],
])('a worker in the middle of its work, way %s, is a PeerFailure with the reason, now and later', async (way, reason) => {
  const w = worker(way, { timeout: way === 'silent' ? 500 : 20_000 });
  await w.request({ op: 'load' });
  await w.request({ op: 'run' });
  const failed = w.request({ op: 'run' });
  await expect(failed).rejects.toThrow(PeerFailure);
  await expect(failed).rejects.toThrow(reason);
  await expect(w.request({ op: 'run' })).rejects.toThrow(reason);
});

test('a program that is not there, an error that it tells of, an answer without a question', async () => {
  const none = new PeerWorker({ file: join(fixtures, 'nowhere'), args: [], env: {} });
  await expect(none.request({ op: 'load' })).rejects.toThrow(/it cannot be started: .*ENOENT/);
  await none.close();
  await expect(worker('cannot load').request({ op: 'load' })).rejects.toThrow(/^ImportError: no such thing$/);
  const chatty = worker('chatty');
  await new Promise((resolve) => setTimeout(resolve, 400));
  await expect(chatty.request({ op: 'load' })).rejects.toThrow(/answered without being asked/);
});

test('an aborted signal ends the worker with its own reason; a worker that stays is killed', async () => {
  const controller = new AbortController();
  const w = worker('silent', { signal: controller.signal });
  await w.request({ op: 'load' });
  await w.request({ op: 'run' });
  const waiting = w.request({ op: 'run' });
  controller.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  const stays = worker('stays');
  await stays.request({ op: 'load' });
  await stays.close(); // would never return
});

test('the Python worker keeps its answers apart from what libraries print, and gives an error in one line', async () => {
  const env = { ...process.env, PYTHONPATH: join(fixtures, 'python'), PYTHONDONTWRITEBYTECODE: '1' };
  const w = new PeerWorker({ file: 'python3', args: [join(packageRoot, 'benchmarks', 'peers', 'worker.py')], env });
  workers.push(w);
  await expect(w.request({ op: 'load', case: 'loss', threads: 1 })).rejects.toThrow(/^ImportError: made up$/);
});

test('rounds are interleaved, ours first; freed memory is kept in one of the two ways', async () => {
  const peers = peersOf('good');
  const open = await peers.open(['step'], () => ({ prompts: [[1]], numGenerations: 2, maxCompletionLength: 3 }));
  const rows = await measureWithPeers({ ours: () => 1 }, open, { rounds: 2 });
  await open.close();
  expect(rows.map((r) => [r.name, r.perBaseline, r.peakRssBytes, r.extraBytes === undefined])).toEqual([
    ['ours', 1, undefined, false],
    ['TRL 3', 4, 5e6, true],
    ['TRL 3 (malloc kept)', 2, 5e6, true],
  ]);
  const loads = ['load plain step 3 3 -', 'load kept step 3 3 -'];
  expect(peers.lines()).toEqual([...loads, ...Array<string[]>(3).fill(['run plain', 'run kept']).flat(), 'end', 'end']);
  expect(open.notes).toBeUndefined();
  expect(existsSync(open.folder)).toBe(false);
});

test('a peer that fails has no row and says why; the others and ours go on', async () => {
  const open = await peersOf('kept dies').open(['step', 'liger'], () => ({ prompts: [] }));
  const rows = await measureWithPeers({ ours: () => 1 }, open, { rounds: 3 });
  await open.close();
  expect(rows.map((r) => r.name)).toEqual(['ours', 'TRL 3']);
  expect(open.notes).toEqual([
    `Liger: left out, liger-kernel is not installed in ${fakePython}`,
    'TRL 3 (malloc kept): left out, its process ended (exit code 3): MemoryError: too large',
  ]);
});

test.each([
  ['cannot load', 'ImportError: no such thing'],
  ['no seconds', 'its answer makes no sense: seconds null'],
])('both ways of a peer, fault %s, are left out', async (way, reason) => {
  const open = await peersOf(way).open(['step'], () => ({ prompts: [] }));
  expect((await measureWithPeers({ ours: () => 1 }, open, { rounds: 1 })).map((r) => r.name)).toEqual(['ours']);
  await open.close();
  expect(open.notes).toEqual(['TRL 3', 'TRL 3 (malloc kept)'].map((name) => `${name}: left out, ${reason}`));
});

test('a disk without room for the inputs is a reason to go on without peers', async () => {
  const open = await peersOf('good').open(['step', 'liger'], () => {
    throw new Error('ENOSPC: no space left on device');
  });
  expect(open.alive).toEqual([]);
  expect(open.notes).toEqual(['TRL', 'Liger'].map((n) => `${n}: left out, its inputs cannot be written: ENOSPC: no space left on device`));
  await open.close();
  expect(existsSync(open.folder)).toBe(false);
});

test('an abort while peers start ends all of them and takes their folder away', async () => {
  const controller = new AbortController();
  const peers = peersOf('good', { signal: controller.signal });
  let folder = '';
  const opening = peers.open(['step'], (open) => {
    folder = open.folder;
    controller.abort(new Error('enough'));
    return {};
  });
  await expect(opening).rejects.toThrow('enough');
  expect(folder).not.toBe('');
  expect(existsSync(folder)).toBe(false);
});

test('rounds that differ as they cannot on an idle machine are told of; the one that warms up does not count', async () => {
  const notes = async (...rounds: number[]): Promise<string[] | undefined> => {
    const open = await peersOf('good').open(['step'], () => ({ prompts: [], seconds: rounds }));
    await measureWithPeers({ ours: () => 1 }, open, { rounds: rounds.length - 1 });
    await open.close();
    return open.notes;
  };
  expect(await notes(90, 3, 1, 2.5)).toEqual(
    ['TRL 3', 'TRL 3 (malloc kept)'].map((n) => `${n}: doubtful, its fastest round took 1.0 s, the middle one 2.5 s`),
  );
  expect(await notes(90, 1, 1.3, 9)).toBeUndefined();
});

test('others are counted: what the machine did, less this process and the measured one', () => {
  const clock = { time: 7, all: 100, us: 3 };
  const others = new Others({ cores: 4, now: () => clock.time, usedByAll: () => clock.all, usedByUs: () => clock.us });
  const round = (seconds: number, all: number, us: number, theirs: number): void => {
    const stop = others.start();
    clock.time += seconds;
    clock.all += all;
    clock.us += us;
    stop(theirs);
  };
  round(2, 7, 0.5, 3);
  expect(others.share).toBeCloseTo(3.5 / 8, 12);
  round(3, 1.5, 0.5, 1);
  expect(others.share).toBeCloseTo(3.5 / 20, 12);
  others.forget();
  round(0.1, 0.4, 0, 0); // ticks are too coarse to tell
  expect(others.share).toBe(0);
  expect(doubt('X', [1, 1], 0.57)).toMatch(/^X: doubtful, others used 57 % of the machine during its rounds/);
  expect(doubt('X', [1, 1], 0.05)).toBeUndefined();
});

test('what others do on this very machine is seen', async () => {
  const others = new Others();
  const stop = others.start();
  await once(spawn(process.execPath, ['-e', 'for (const end = Date.now() + 900; Date.now() < end; );']), 'exit');
  stop(0);
  expect(others.share).toBeGreaterThan(0.4 / cpus().length);
});

const log = (): void => undefined;

test('a named Python is used, or the reason why not is told', async () => {
  const named = (way: string, python = fakePython): Promise<unknown> =>
    peersPython({ log, env: setting(way, { FUSED_GRPO_PEERS_PYTHON: python }).env });
  expect(await named('liger')).toEqual({ python: fakePython, versions: { ...versions, transformers: '2', 'liger-kernel': '4' } });
  await expect(named('bare')).rejects.toThrow(`${fakePython} has no torch, no transformers, no trl`);
  await expect(named('mute')).rejects.toThrow(/cannot be used: .*JSON/);
  await expect(named('good', '/nowhere/python')).rejects.toThrow(/\/nowhere\/python cannot be used: .*ENOENT/);
});

test('the folder of the private Python', () => {
  expect(peersFolder({ env: { HOME: '/h' } })).toMatch(/^\/h\/\.cache\/fused-grpo\/peers-torch[\d.]+-trl[\d.]+-liger[\d.]+$/);
  expect(peersFolder({ env: { HOME: '/h', XDG_CACHE_HOME: '/c' } })).toMatch(/^\/c\/fused-grpo\/peers-/);
  expect(peersFolder({ env: { FUSED_GRPO_PEERS_FOLDER: '/e' } })).toBe('/e');
  expect(peersFolder({ env: { FUSED_GRPO_PEERS_FOLDER: '/e' }, folder: '/o' })).toBe('/o');
});

/** A machine whose python3 is the stand-in, which has TRL or (bare, offline) has not. */
function machine(way: string): Setting & { folder: string } {
  const bin = newFolder();
  copyFileSync(fakePython, join(bin, 'python3'));
  chmodSync(join(bin, 'python3'), 0o755);
  const { env, lines } = setting(way, { PATH: bin + delimiter + process.env.PATH });
  return { env, lines, folder: join(newFolder(), 'sub', 'peers') };
}

test("the machine's own Python is used where it has them; nothing is installed then", async () => {
  const { env, folder } = machine('good');
  expect((await peersPython({ env, folder, log })).python).toBe('python3');
  expect(existsSync(folder)).toBe(false);
});

test('else pinned versions are installed once, into a folder that is whole or not there', async () => {
  const { env, lines, folder } = machine('bare');
  const said: string[] = [];
  // The stand-in has no TRL after it was installed either: the second run finds the folder and does not install again.
  for (let i = 0; i < 2; ++i)
    await expect(peersPython({ env, folder, log: (t) => said.push(t) })).rejects.toThrow(/bin\/python has no torch/);
  expect(lines()).toHaveLength(2);
  expect(lines()[0]).toMatch(/^-m venv .*peers\.part-\d+$/);
  for (const [name, version] of Object.entries(PACKAGES)) expect(lines()[1]).toContain(`${name}==${version}`);
  expect(said).toHaveLength(1);
  expect(said[0]).toContain(folder);
  expect(readdirSync(join(folder, '..'))).toEqual(['peers']);
});

test('an installation that fails says why and leaves nothing behind', async () => {
  const { env, folder } = machine('offline');
  const bare = { ...env, PATH: env.PATH };
  // With TRL in python3 nothing would be installed: a python3 that only makes venvs.
  writeFileSync(join(env.PATH!.split(delimiter)[0]!, 'python3'), `#!/bin/sh\n[ "$1" = -c ] && exit 1\nexec '${fakePython}' "$@"\n`);
  await expect(peersPython({ env: bare, folder, log })).rejects.toThrow(
    'they could not be installed: ERROR: No matching distribution found',
  );
  expect(readdirSync(join(folder, '..'))).toEqual([]);
  const file = join(newFolder(), 'file');
  writeFileSync(file, '');
  await expect(peersPython({ env: bare, folder: join(file, 'sub', 'peers'), log })).rejects.toThrow(
    /they could not be installed: .*ENOTDIR/,
  );
});
