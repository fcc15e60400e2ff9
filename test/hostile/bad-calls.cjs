// Random bad calls, in a process of their own: node bad-calls.cjs '{ "seed": 1, "count": 1000, "engine": false, "core": "other core.node" }'
// A call may succeed, throw an error with a code of this package, or throw what the caller's own code threw. Its inputs stay as they were.
// Prints a summary as JSON; a wrong outcome is told with its seed and number and ends the process with 2.
'use strict';
const { join } = require('node:path');
const dist = join(__dirname, '../../dist/cjs');
const api = require(join(dist, 'index.js'));
const { GOOD, GOOD_ENGINE } = require('./good-calls.cjs');

const settings = { seed: 1, count: 1000, only: undefined, ...JSON.parse(process.argv[2] ?? '{}') };
if (settings.core) require(join(dist, 'native.js')).substituteCore(require(settings.core));

/** As test/support/random.ts. */
class Random {
  constructor(seed) {
    this.state = seed >>> 0;
  }
  next() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
  below(n) {
    return Math.floor(this.next() * n);
  }
  pick(values) {
    return values[this.below(values.length)];
  }
  chance(p) {
    return this.next() < p;
  }
}

const USER = Object.assign(new Error('by the caller'), { user: true });
const boom = () => {
  if (settings.trace) USER.stack = new Error().stack;
  throw USER;
};
const CLASSES = [Float32Array, Float64Array, Int32Array, Uint8Array, Uint16Array];
const isTyped = (v) => ArrayBuffer.isView(v) && !(v instanceof DataView) && !(v instanceof BigInt64Array);
const detach = (array) => {
  if (isTyped(array) && array.buffer instanceof ArrayBuffer && array.buffer.byteLength)
    structuredClone(array.buffer, { transfer: [array.buffer] });
};
/** A copy in other memory of the same kind of array: shared, resizable, unaligned, ... */
const rehoused = {
  shared: (a) => Object.assign(new a.constructor(new SharedArrayBuffer(a.byteLength + 64), 0, a.length)),
  growable: (a) => new a.constructor(new SharedArrayBuffer(a.byteLength, { maxByteLength: 4 * a.byteLength + 8 })),
  tracking: (a) => new a.constructor(new ArrayBuffer(a.byteLength, { maxByteLength: 4 * a.byteLength + 8 })),
  offset: (a) => new a.constructor(new ArrayBuffer(a.byteLength + 64), a.BYTES_PER_ELEMENT * 3, a.length),
};
const rehouse = (r, a) => {
  const copy = rehoused[r.pick(Object.keys(rehoused))](a);
  copy.set(a.length === copy.length ? a : a.subarray(0, copy.length));
  return copy;
};
const shrunk = (Class, n) => {
  const buffer = new ArrayBuffer(n * Class.BYTES_PER_ELEMENT, { maxByteLength: 1024 });
  const view = new Class(buffer, 0, n);
  buffer.resize(0);
  return view;
};
const revoked = (of) => {
  const { proxy, revoke } = Proxy.revocable(of, {});
  revoke();
  return proxy;
};
class OddArray extends Float32Array {
  get length() {
    return 3;
  }
}

const NUMBERS = [NaN, Infinity, -Infinity, -1, -0, 0, 0.5, 1, 2, 3, 7, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 53, 1e300, -(2 ** 31), 1e-320];
const VALUES = [
  undefined,
  null,
  true,
  false,
  '',
  'x',
  'dapo',
  'float16',
  5n,
  Symbol('s'),
  boom,
  () => 1, // prettier-ignore
  ...NUMBERS,
];
const MAKERS = [
  () => ({}),
  () => [],
  () => [NaN],
  () => [1, 'x'],
  () => new Array(2 ** 32 - 1),
  () => new Date(),
  () => new DataView(new ArrayBuffer(8)),
  () => new BigInt64Array(2),
  () => new ArrayBuffer(16),
  () => ({ length: 4, [Symbol.toStringTag]: 'Float32Array' }),
  () => ({ length: 2 ** 53, [Symbol.toStringTag]: 'Int32Array', 0: 0 }),
  () => ({ valueOf: boom, toString: boom }),
  () => ({ length: 3, get constructor() { throw USER; } }), // prettier-ignore
  () => revoked({}),
  () => revoked([]),
  () => new Proxy(new Float32Array(4), {}),
  () => new Proxy([1, 2, 3, 4], { get: (t, k) => (k === '2' ? boom() : t[k]) }),
  () => new Proxy([1, 2], { get: (t, k) => (k === 'length' ? 2 ** 40 : t[k]) }),
  () => new OddArray(4),
  () => Object.defineProperty(new Int32Array(3), 'length', { value: 2 ** 40 }),
  () => Object.defineProperty(new Float32Array(4), 'buffer', { value: null }),
  () => Object.setPrototypeOf(new Float32Array(4), null),
  () => Object.create(api.Tensor.prototype),
  () => Object.create(null),
];
const hostile = (r) => {
  if (r.chance(0.5)) return r.pick(VALUES);
  if (r.chance(0.5)) return r.pick(MAKERS)();
  const Class = r.pick(CLASSES);
  if (r.chance(0.2)) return shrunk(Class, 4);
  const array = new Class(r.below(20));
  if (r.chance(0.3)) detach(array);
  else if (array.length) array[r.below(array.length)] = r.pick(NUMBERS);
  return array;
};

const define = (o, key, get) => Object.defineProperty(o, key, { get, enumerable: true, configurable: true });
/** The properties that are no getters (yet). */
const dataOf = (o) => Object.entries(Object.getOwnPropertyDescriptors(o)).flatMap(([k, d]) => ('value' in d ? [[k, d.value]] : []));
const typedOf = (o) => dataOf(o).flatMap(([, v]) => (isTyped(v) ? [v] : []));
/** What is done to one property of a batch or configuration. `dirty`: the caller's own code harms arrays. */
const SPOIL = {
  replace: (r, o, k) => void (o[k] = hostile(r)),
  number: (r, o, k) => void (o[k] = r.pick(NUMBERS)),
  remove: (r, o, k) => void delete o[k],
  unknown: (r, o) => void (o[r.pick(['maks', 'epsilonhigh', '__proto', ''])] = 1),
  rehouse: (r, o, k) => void (isTyped(o[k]) && (o[k] = rehouse(r, o[k]))),
  element: (r, o, k) => void (isTyped(o[k]) && o[k].length && (o[k][r.below(o[k].length)] = r.pick(NUMBERS))),
  changing: (r, o, k) => {
    const [first, after] = [o[k], hostile(r)];
    const good = 1 + r.below(3);
    let reads = 0;
    define(o, k, () => (reads++ < good ? first : after));
  },
  throwing: (r, o, k) => void define(o, k, boom),
  detaching: (r, o, k) => {
    const [value, victims] = [o[k], typedOf(o)];
    define(o, k, () => (victims.forEach((v) => r.chance(0.5) && detach(v)), value));
    return 'dirty';
  },
  writing: (r, o, k) => {
    const [value, victims] = [o[k], typedOf(o)];
    const number = r.pick(NUMBERS);
    define(o, k, () => (victims.forEach((v) => v.length && (v[r.below(v.length)] = number)), value));
    return 'dirty';
  },
  reentrant: (r, o, k, call) => {
    const value = o[k];
    let inside = false;
    define(o, k, () => {
      if (!inside) {
        inside = true;
        attempt(call.again);
      }
      return value;
    });
    return 'dirty'; // the call inside writes the logits
  },
  // one memory for the logits, which are overwritten, and an array of indices
  overlapping: (r, o, k) => {
    const { logits } = Object.fromEntries(dataOf(o));
    if (!isTyped(o[k]) || !isTyped(logits) || k === 'logits' || !(logits.byteLength >= o[k].byteLength)) return undefined;
    const Class = o[k].constructor;
    const offset = Math.ceil(logits.byteOffset / Class.BYTES_PER_ELEMENT) * Class.BYTES_PER_ELEMENT;
    if (offset + o[k].byteLength > logits.buffer.byteLength) return undefined;
    const view = new Class(logits.buffer, offset, o[k].length);
    view.set(o[k]);
    o[k] = view;
    return undefined;
  },
};
const wrap = (r, o) =>
  new Proxy(
    o,
    r.pick([
      {},
      { get: (t, k) => (r.chance(0.1) ? boom() : t[k]) },
      { ownKeys: boom },
      { get: (t, k) => (r.chance(0.1) ? hostile(r) : t[k]) },
    ]),
  );

const plain = new WeakSet(); // the batches and configurations of right calls; not what has taken their place
const lists = new WeakSet();
const isPlain = (v) => plain.has(v);
const OK_CODES = new Set(
  ['INVALID_ARG', 'UNKNOWN_OPTION', 'INCOMPATIBLE_OPTIONS', 'NON_FINITE', 'OUT_OF_MEMORY', 'DISPOSED', 'CONTEXT_LENGTH', 'TOKENIZER', 'NO_CUDA', 'ABORTED'].map((c) => `ERR_${c}`), // prettier-ignore
);
/** 'OK', 'USER' or a code; anything else is what was thrown. */
function judge(error) {
  if (error === USER) return 'USER';
  if (error instanceof Error && OK_CODES.has(error.code) && error.message.length > 10) return error.code;
  return error ?? new Error('threw nothing');
}
function attempt(run) {
  try {
    const result = run();
    return typeof result?.then === 'function' ? result.then(() => 'OK', judge) : 'OK';
  } catch (error) {
    return judge(error);
  }
}

const bytes = (array) =>
  array.byteLength === 0 ? Buffer.alloc(0) : Buffer.from(new Uint8Array(array.buffer, array.byteOffset, array.byteLength).slice());
/** What has been spoiled before may not let itself be spoiled again. */
function spoil(...args) {
  try {
    return SPOIL[args[0].pick(Object.keys(SPOIL))](...args);
  } catch {
    return undefined;
  }
}
function spoiled(r, args, call) {
  let dirty = false;
  for (let n = r.below(4); n > 0; --n) {
    const at = r.below(args.length);
    const target = args[at];
    if (lists.has(target) && r.chance(0.5)) target[r.below(target.length)] = hostile(r);
    else if (!isPlain(target) || r.chance(0.08)) args[at] = hostile(r);
    else {
      const keys = dataOf(target).map(([k]) => k);
      const key = r.pick(keys) ?? r.pick(['numGenerations', 'lossType', 'eps']);
      const made = keys.length || !Object.hasOwn(target, key) ? spoil(r, target, key, call) : undefined;
      dirty ||= made === 'dirty';
      if (r.chance(0.05)) args[at] = wrap(r, target);
    }
  }
  return dirty;
}

async function main() {
  const seen = {};
  const engine = settings.engine && { api, Tensor: api.Tensor, policy: await api.Policy.load(join(__dirname, '../../demo/model')) };
  const table = engine ? GOOD_ENGINE : GOOD;
  const names = settings.only ? [settings.only] : Object.keys(table);
  for (let i = settings.from ?? 0; i < settings.count; ++i) {
    const r = new Random(Math.imul(settings.seed, 1000003) + i);
    const name = r.pick(names);
    const fresh = () => (engine ? table[name](r, engine) : [api[name], ...table[name](r)]);
    const [fn, ...args] = fresh();
    for (const arg of args) if (Array.isArray(arg)) lists.add(arg);
    for (const arg of args) if (Object.getPrototypeOf(arg) === Object.prototype) plain.add(arg);
    const tensors = args.flatMap((a) => (isPlain(a) ? dataOf(a).flatMap(([, v]) => (v instanceof api.Tensor ? [v] : [])) : []));
    const call = { again: () => fn(...args) };
    const dirty = spoiled(r, args, call);
    if (engine && tensors.length && r.chance(0.1)) r.pick(tensors).dispose(); // before the call
    const data = args.filter(isPlain).flatMap(dataOf);
    const logits = data.find(([k, v]) => k === 'logits' && isTyped(v))?.[1].buffer;
    const watched = dirty
      ? []
      : data.filter(([k, v]) => k !== 'logits' && isTyped(v) && Object.getPrototypeOf(v) && v.buffer && v.buffer !== logits);
    const before = watched.map(([, v]) => bytes(v));
    const begin = performance.now();
    let outcome = attempt(() => fn(...args));
    if (typeof outcome?.then === 'function') {
      if (tensors.length && r.chance(0.1)) r.pick(tensors).dispose(); // while the call is under way
      if (r.chance(0.2)) data.forEach(([, v]) => r.chance(0.5) && detach(v)); // the op has its copies
      outcome = await outcome;
    } else if (outcome !== 'OK')
      watched.forEach(([k, v], j) => {
        if (!bytes(v).equals(before[j])) outcome = new Error(`${k} was changed by a call that failed`);
      });
    tensors.forEach((t) => t.dispose());
    if (settings.trace && performance.now() - begin > 500) console.error(`call ${i}, ${name}: ${performance.now() - begin} ms`);
    if (typeof outcome !== 'string') {
      console.error(`seed ${settings.seed}, call ${i}, ${name}:`, outcome);
      process.exit(2);
    }
    seen[outcome] = (seen[outcome] ?? 0) + 1;
  }
  engine?.policy?.dispose();
  console.log(JSON.stringify({ seed: settings.seed, calls: settings.count, seen }));
}
main().catch((e) => (console.error(e), process.exit(3)));
