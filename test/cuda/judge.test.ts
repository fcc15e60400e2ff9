// The judge of compiled kernels must be able to fail: small kernels that spill, use local memory, or compute in fp64 over the vocabulary.
import { describe, expect, test } from '@jest/globals';
import { join } from 'node:path';
import { evaluate, plant, temporary } from '../build/scripts';

interface Judged {
  name: string;
  faults: string[];
}
const located = evaluate('nvcc.mjs', 'm.locateNvcc()') as { nvcc?: string } | null;
const why = located?.nvcc ? '' : ' (skipped: no nvcc on this machine; npm run cuda:compile fetches one)';

const HEAD = `#include <cuda_bf16.h>
struct A { const float4* x; float* y; double* z; int n, k; };`;
const SOURCES = {
  clean: `__global__ void clean(A a) {
    float s = 0;
    for (int i = threadIdx.x; i < a.n; i += blockDim.x) { float4 v = a.x[i]; s += exp2f(v.x) + exp2f(v.y) + exp2f(v.z) + exp2f(v.w); }
    double once = s; // fp64 outside of the loop is allowed
    a.z[threadIdx.x] = once * once + 1.0;
  }`,
  doubles: `__global__ void doubles(A a) {
    double s = 0;
    for (int i = threadIdx.x; i < a.n; i += blockDim.x) { float4 v = a.x[i]; s += v.x + v.y + v.z + v.w; }
    a.z[threadIdx.x] = s;
  }`,
  spills: `template <int N> __global__ void __launch_bounds__(1024, 2) spills(A a) {
    float s[N];
    for (int j = 0; j < N; ++j) s[j] = a.y[threadIdx.x + j * 100];
    for (int i = threadIdx.x; i < a.n; i += blockDim.x) for (int j = 0; j < N; ++j) s[j] = s[j] * a.y[i] + s[(j + 1) % N];
    for (int j = 0; j < N; ++j) a.y[threadIdx.x + j] = s[j];
  }
  template __global__ void spills<64>(A);`,
  indexed: `__global__ void indexed(A a) {
    float s[16];
    for (int j = 0; j < a.n; ++j) s[(j * a.k) & 15] = a.y[j];
    a.y[threadIdx.x] = s[(threadIdx.x + a.k) & 15];
  }`,
};

/** SASS as cuobjdump prints it. */
const listing = (lines: string[]) =>
  ['\t\tFunction : f', ...lines.map((l, i) => `        /*${(i * 16).toString(16).padStart(4, '0')}*/   ${l} ;  /* 0x0 */`)].join('\n');

const EXPONENTIALS = ['MUFU.EX2 R4, R4', 'MUFU.EX2 R5, R5', 'MUFU.EX2 R6, R6', 'MUFU.EX2 R7, R7'];
const partsOf = (lines: string[]) =>
  evaluate(
    'cuda/sass.mjs',
    `m.parseSass(${JSON.stringify(listing(lines))}).map((f) => m.vocabularyCode(f.code).map((p) => [p.kind, p.code.filter(m.isFp64).length]))[0]`,
  ) as [string, number][];

describe('parts that go over the vocabulary', () => {
  test('the innermost loop counts, what stands around it does not', () => {
    const code = ['DADD R2, R2, R2', 'LDG.E.128 R4, [R2.64]', ...EXPONENTIALS, '@P0 BRA 0x10', 'DADD R2, R2, R2', '@P1 BRA 0x0', 'EXIT'];
    expect(partsOf(code)).toEqual([['loop', 0]]);
    expect(partsOf(code.with(6, '@P0 BRA 0x0'))).toEqual([['loop', 2]]);
  });
  test('unrolled code between barriers counts like a loop', () => {
    const around = (fp64: string[]) => [
      'BAR.SYNC 0x0',
      'LDS.128 R4, [R2]',
      ...Array.from({ length: 4 }, () => EXPONENTIALS).flat(),
      ...fp64,
      'BAR.SYNC 0x0',
      'DADD R2, R2, R2',
      'EXIT',
    ];
    expect(partsOf(around([]))).toEqual([['straight', 0]]);
    expect(partsOf(around(['F2F.F64.F32 R2, R4', 'DADD R2, R2, R2']))).toEqual([['straight', 2]]);
  });
  test('a wait that spins is no loop over anything, and a way back from behind the end makes none', () => {
    const spin = ['SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R2], R3', '@!P0 BRA 0x0'];
    expect(partsOf([...spin, 'EXIT', 'BRA 0x0'])).toEqual([]);
  });
});

(why ? describe.skip : describe)(`the judge on compiled kernels${why}`, () => {
  const folder = temporary();
  const files = plant(folder, { 'all.cu': [HEAD, ...Object.values(SOURCES)].join('\n'), 'broken.cu': 'int f() { return nothing; }' });
  const compile = (file: string) =>
    evaluate(
      'cuda-compile.mjs',
      `m.compileAll({ files: [${JSON.stringify(join(files, file))}], architectures: ['sm_90a'], folder: ${JSON.stringify(join(folder, 'out'))} })`,
    ) as { error?: string; kernels?: Judged[]; cached?: boolean }[];

  test('each fault is named, and only where it is', () => {
    const [result] = compile('all.cu');
    const faults = Object.fromEntries(result!.kernels!.map((k) => [k.name, k.faults.join('; ')]));
    expect(Object.keys(faults).sort()).toEqual(['clean', 'doubles', 'indexed', 'spills<64>']);
    expect(faults.clean).toBe('');
    expect(faults.doubles).toMatch(/^fp64 over the vocabulary: .*DADD/);
    expect(faults['spills<64>']).toMatch(/^spills \d+ bytes out, \d+ in; local memory/);
    expect(faults.indexed).toMatch(/^local memory: 64 bytes of stack, \d+ accesses$/);
    expect(compile('all.cu')[0]!.cached).toBe(true);
  });

  test('what does not compile is reported with the compiler’s words', () => {
    expect(compile('broken.cu')[0]!.error).toMatch(/broken\.cu\(1\): error: identifier "nothing" is undefined/);
  });
});
