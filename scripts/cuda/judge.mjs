// What a compiled kernel must be: no spills, no local memory, no fp64 where it goes over the vocabulary.
import { spawnSync } from 'node:child_process';
import { isExponential, isFp64, isSpecial, isVectorAccess, parseSass, vocabularyCode } from './sass.mjs';

/** Per mangled name what `ptxas -v` says: { registers, shared, stack, spillStores, spillLoads }. */
export function parsePtxas(text) {
  const kernels = new Map();
  let entry = null;
  let properties = null;
  for (const line of text.split('\n')) {
    const start = /Compiling entry function '(\S+?)' for/.exec(line);
    if (start) {
      entry = { registers: 0, shared: 0, stack: 0, spillStores: 0, spillLoads: 0 };
      kernels.set(start[1], entry);
    }
    properties = /Function properties for (\S+)/.exec(line)?.[1] ?? properties;
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    // functions that were not inlined count with the kernel that was compiled last
    if (frame && entry) {
      entry.stack += Number(frame[1]);
      entry.spillStores += Number(frame[2]);
      entry.spillLoads += Number(frame[3]);
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used && entry) entry.registers = Number(used[1]);
    const shared = /(\d+)(?:\+\d+)? bytes smem/.exec(line);
    if (shared && entry) entry.shared = Number(shared[1]);
  }
  return kernels;
}

const DTYPES = ['f32', 'bf16', 'f16']; // of native/kernels/view.h

/** Names as the source writes them; the mangled ones where there is no c++filt. */
export function demangle(names) {
  const result = spawnSync('c++filt', [], { input: names.join('\n'), encoding: 'utf8' });
  const plain = result.status === 0 ? result.stdout.trimEnd().split('\n') : names;
  return plain.map((name) =>
    name
      .replace(/^void /, '')
      .replace(/\(anonymous namespace\)::|_(GLOBAL__N_|INTERNAL)_\w+::|fg::(\w+::)*/g, '')
      .replace(/\(DType\)(\d)/g, (_, d) => DTYPES[d] ?? d)
      .replace(/\((bool|int|unsigned int|long)\)/g, '')
      .replace(/\([^()]*\)$/, ''),
  );
}

/** Why fp64 in a loop over 16-byte loads is right in these: they do not go over the vocabulary. */
export const FP64_LOOPS = {
  sum_chunks: 'the norm of the gradients is a sum in fp64, so that it does not depend on the order',
  finish_norm: 'adds the sums of the chunks',
  policy_tokens: 'goes over tokens, one a thread: its metrics are sums in fp64',
  policy_sequences: 'goes over the tokens of a sequence: sums and metrics in fp64',
  prepare_rows: 'goes over tokens, and rewards, whose statistics are fp64',
  choose: 'goes over tokens: counts and means in fp64',
};

/** The faults of one kernel, in words; none: it passes. */
export function faultsOf(name, ptxas, code) {
  const faults = [];
  if (ptxas.spillStores || ptxas.spillLoads) faults.push(`spills ${ptxas.spillStores} bytes out, ${ptxas.spillLoads} in`);
  const local = code.filter((i) => /^(LDL|STL)\b/.test(i.opcode)).length;
  if (ptxas.stack || local) faults.push(`local memory: ${ptxas.stack} bytes of stack, ${local} accesses`);
  const fp64 = vocabularyCode(code).flatMap((part) => part.code.filter(isFp64));
  if (fp64.length && !FP64_LOOPS[name.replace(/<.*/, '')])
    faults.push(`fp64 over the vocabulary: ${[...new Set(fp64.map((i) => i.opcode))].join(', ')} at 0x${fp64[0].address.toString(16)}`);
  return faults;
}

/** Counts of one part that goes over the vocabulary. */
export function countPart({ kind, code }) {
  const count = (test) => code.filter(test).length;
  const accesses = (pattern) => count((i) => pattern.test(i.opcode) && isVectorAccess(i));
  return {
    kind,
    instructions: count((i) => i.opcode !== 'NOP'),
    exponentials: count(isExponential),
    special: count(isSpecial),
    globalLoads: accesses(/^LDG/),
    globalStores: accesses(/^STG/),
    sharedLoads: accesses(/^LDS/),
    sharedStores: accesses(/^STS/),
    narrow: count((i) => /^(LDG|STG)\b/.test(i.opcode) && !isVectorAccess(i)),
  };
}

/** Every kernel of one compiled file, judged. */
export function judge(arch, ptxasText, sassText) {
  const limits = parsePtxas(ptxasText);
  const code = new Map(parseSass(sassText).map((f) => [f.name, f.code]));
  const mangled = [...limits.keys()];
  const names = demangle(mangled);
  return mangled.map((symbol, n) => {
    const instructions = code.get(symbol);
    const faults = instructions ? faultsOf(names[n], limits.get(symbol), instructions) : ['not in the disassembly'];
    const parts = instructions ? vocabularyCode(instructions).map(countPart) : [];
    return { name: names[n], symbol, arch, ...limits.get(symbol), instructions: instructions?.length ?? 0, parts, faults };
  });
}
