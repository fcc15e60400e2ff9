// What a .node file is, read without loading it: a file that was cut short can kill the process that maps it (SIGBUS), and an addon
// of another version would fail later, at some call, in words that help nobody.
'use strict';
const { readFileSync } = require('node:fs');

/** What native/addon/common/identity.cc writes into every addon. */
const MARKER = 'FUSED_GRPO_ADDON={';
const MACHINES = { 3: 'ia32', 40: 'arm', 62: 'x64', 183: 'arm64', 243: 'riscv64', 21: 'ppc64', 22: 's390x', 258: 'loong64' };
const PT_LOAD = 1;

/** How many bytes an ELF file must have, by its own tables. */
function wholeLength(data) {
  const n = (at) => Number(data.readBigUInt64LE(at));
  const segments = { at: n(32), size: data.readUInt16LE(54), count: data.readUInt16LE(56) };
  let end = Math.max(segments.at + segments.size * segments.count, n(40) + data.readUInt16LE(58) * data.readUInt16LE(60));
  for (let i = 0; i < segments.count; ++i) {
    const at = segments.at + i * segments.size;
    if (at + segments.size > data.length) return end;
    if (data.readUInt32LE(at) === PT_LOAD) end = Math.max(end, n(at + 8) + n(at + 32));
  }
  return end;
}

function readIdentity(data) {
  const at = data.indexOf(MARKER);
  if (at < 0) return null;
  try {
    return JSON.parse(data.toString('utf8', at + MARKER.length - 1, data.indexOf(0, at)));
  } catch {
    return null;
  }
}

/** -1, 0 or 1 for dotted versions. */
function compareVersions(a, b) {
  const [x, y] = [a, b].map((v) => v.split('.').map(Number));
  for (let i = 0; i < Math.max(x.length, y.length); ++i) if ((x[i] ?? 0) !== (y[i] ?? 0)) return (x[i] ?? 0) < (y[i] ?? 0) ? -1 : 1;
  return 0;
}

/** The newest version of each library that the file asks for (names of symbol versions stand in its string table). */
function readNeeds(data) {
  const needs = {};
  for (const [, library, wanted] of data.toString('latin1').matchAll(/\0(GLIBC|GLIBCXX|CXXABI)_(\d+(?:\.\d+)+)(?=\0)/g))
    if (!needs[library] || compareVersions(needs[library], wanted) < 0) needs[library] = wanted;
  return needs;
}

/**
 * { arch, identity, needs, problem }: `problem` when the file cannot be an addon for Linux at all. `identity`: { addon, version,
 * sources, napi, libc, torch }, or null in what was not built by this package.
 */
function inspectBinary(file) {
  const data = readFileSync(file);
  const none = { arch: null, identity: null, needs: {} };
  if (data.length < 64 || data.readUInt32BE(0) !== 0x7f454c46) return { ...none, problem: 'is no addon (not an ELF file), or is damaged' };
  if (data[4] !== 2 || data[5] !== 1) return { ...none, problem: 'was built for a processor of another kind' }; // 32 bits or big-endian
  const arch = MACHINES[data.readUInt16LE(18)] ?? `machine ${data.readUInt16LE(18)}`;
  const whole = wholeLength(data);
  if (data.length < whole) return { ...none, arch, problem: `is damaged: ${data.length} of ${whole} bytes are there` };
  return { arch, identity: readIdentity(data), needs: readNeeds(data), problem: null };
}

module.exports = { inspectBinary, compareVersions };
