// The arithmetic of the roofline: occupancy, and what the machine code and the counted bytes say about an H200.

/** `bytes`: measured by copying (read and write together), not the data sheet's 4.8e12. */
export const H200 = { multiprocessors: 132, clock: 1.75e9, bytes: 4.3e12, issuePerClock: 4, specialPerClock: 16 };

const LIMITS = {
  sm_80: { registers: 65536, warps: 64, blocks: 32, shared: 164 * 1024 },
  sm_90a: { registers: 65536, warps: 64, blocks: 32, shared: 228 * 1024 },
};
const RESERVED_SHARED = 1024; // of each block, by the driver
const ceilTo = (n, step) => Math.ceil(n / step) * step;

/** Blocks of a kernel that a multiprocessor holds at once, and which resource says so. */
export function occupancy(arch, { registers, threads, shared }) {
  const limit = LIMITS[arch];
  const warps = Math.ceil(threads / 32);
  const by = {
    registers: Math.floor(limit.registers / (ceilTo(registers * 32, 256) * warps)),
    threads: Math.floor(limit.warps / warps),
    shared: Math.floor(limit.shared / ceilTo(shared + RESERVED_SHARED, 128)),
    blocks: limit.blocks,
  };
  const blocks = Math.min(...Object.values(by));
  return { blocks, warps: blocks * warps, by: Object.keys(by).find((k) => by[k] === blocks) };
}

/**
 * Instructions and special-function operations per logit. A row passes two kinds of parts: those that form statistics and those that
 * store the gradient; in both, every logit costs one 2^x. Of each kind the part with the most of them is the steady state (the costlier
 * one of equals); others are heads, tails and rare cases.
 */
export function perLogit(parts) {
  const steady = (list) =>
    list.filter((p) => p.exponentials > 0).sort((a, b) => b.exponentials - a.exponentials || b.instructions - a.instructions)[0];
  const both = [steady(parts.filter((p) => p.globalStores === 0)), steady(parts.filter((p) => p.globalStores > 0))].filter(Boolean);
  if (both.length === 0) return null;
  const sum = (count) => both.reduce((total, p) => total + p[count] / p.exponentials, 0);
  return { instructions: sum('instructions'), special: sum('special'), passes: both.length };
}

/**
 * Seconds per logit that each resource needs, which one limits, and what share of its time the others take. The slack of issue slots is
 * against the fewest bytes: moving more than needed must not look like slack.
 */
export function predict({ bytesPerLogit, leastBytesPerLogit, instructions, special }, gpu = H200) {
  const perSecond = gpu.multiprocessors * gpu.clock;
  const seconds = {
    memory: bytesPerLogit / gpu.bytes,
    issue: instructions / (perSecond * gpu.issuePerClock * 32),
    special: special / (perSecond * gpu.specialPerClock),
  };
  const most = Math.max(...Object.values(seconds));
  const share = Object.fromEntries(Object.entries(seconds).map(([k, s]) => [k, s / most]));
  return {
    seconds,
    limit: Object.keys(seconds).find((k) => seconds[k] === most),
    share,
    issueSlack: 1 - (seconds.issue * gpu.bytes) / leastBytesPerLogit,
  };
}
