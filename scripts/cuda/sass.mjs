// Reading `cuobjdump -sass`: instructions, basic blocks, natural loops, and which parts go over the vocabulary.

const LINE = /^\s+\/\*([0-9a-f]{4,})\*\/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;/;

/** One entry per function: { name (mangled), code: [{ address, predicate, opcode, operands }] }. */
export function parseSass(text) {
  const functions = [];
  for (const line of text.split('\n')) {
    const start = /^\s*Function : (\S+)/.exec(line);
    if (start) functions.push({ name: start[1], code: [] });
    const m = LINE.exec(line);
    if (m && functions.length)
      functions.at(-1).code.push({ address: parseInt(m[1], 16), predicate: m[2] ?? '', opcode: m[3], operands: m[4] });
  }
  return functions;
}

const isJump = (i) => /^(BRA|JMP|BRX|JMX|CALL|BREAK)\b/.test(i.opcode);
const isEnd = (i) => /^(EXIT|RET|KILL|BPT)\b/.test(i.opcode);
/** A jump that is taken whenever it is reached; BRA.U and BRA.DIV carry their condition among the operands. */
const always = (i) => i.predicate === '' && !/U?P\d|UR\d|URZ/.test(i.operands.replace(/0x[0-9a-f]+/, '')) && !/^CALL/.test(i.opcode);
const target = (i) => {
  const m = /0x([0-9a-f]+)(?!.*0x)/.exec(i.operands);
  return isJump(i) && m ? parseInt(m[1], 16) : null;
};
export const isBarrier = (i) => /^(BAR|SYNCS|UCGABAR|WARPSYNC\.ALL)/.test(i.opcode);

/** Basic blocks in address order, each { index, code, next: [block index] }. */
export function basicBlocks(code) {
  const leaders = new Set([0]);
  const at = new Map(code.map((i, n) => [i.address, n]));
  code.forEach((i, n) => {
    if (!isJump(i) && !isEnd(i)) return;
    leaders.add(n + 1);
    if (at.has(target(i))) leaders.add(at.get(target(i)));
  });
  const starts = [...leaders].filter((n) => n < code.length).sort((a, b) => a - b);
  const blockAt = new Map(starts.map((n, index) => [n, index]));
  return starts.map((start, index) => {
    const block = code.slice(start, starts[index + 1] ?? code.length);
    const last = block.at(-1);
    const next = [];
    if (at.has(target(last))) next.push(blockAt.get(at.get(target(last))));
    const falls = !(isEnd(last) && last.predicate === '') && !(isJump(last) && always(last));
    if (falls && index + 1 < starts.length) next.push(index + 1);
    return { index, code: block, next: [...new Set(next)] };
  });
}

/** Blocks that the entry leads to; padding behind the last EXIT is none of them. */
function reachable(blocks) {
  const seen = new Set([0]);
  for (const b of seen) blocks[b].next.forEach((n) => seen.add(n));
  return seen;
}

/** dom[b]: the set of blocks through which every way to b leads; before[b]: the blocks that lead to b. */
function dominators(blocks) {
  const before = blocks.map(() => []);
  const everything = reachable(blocks);
  for (const b of everything) for (const n of blocks[b].next) before[n].push(b);
  const dom = blocks.map((b) => (b.index === 0 ? new Set([0]) : everything));
  for (let changed = true; changed;) {
    changed = false;
    for (const index of everything) {
      if (index === 0) continue;
      const ways = before[index].map((p) => dom[p]);
      const meet = new Set([...ways[0]].filter((x) => ways.every((w) => w.has(x)))).add(index);
      if (meet.size !== dom[index].size) ((dom[index] = meet), (changed = true));
    }
  }
  return { dom, before, everything };
}

/** Natural loops, { head, blocks: Set }; loops with one head are one loop. */
export function loopsOf(blocks) {
  const { dom, before, everything } = dominators(blocks);
  const loops = new Map();
  for (const b of everything)
    for (const head of blocks[b].next) {
      if (!dom[b].has(head)) continue;
      const body = loops.get(head) ?? new Set([head]);
      const todo = [b];
      while (todo.length) {
        const x = todo.pop();
        if (body.has(x)) continue;
        body.add(x);
        todo.push(...before[x]);
      }
      loops.set(head, body);
    }
  return [...loops].map(([head, body]) => ({ head, blocks: body }));
}

export const isVectorAccess = (i) => /^(LDG|STG|LDS|STS|LD|ST)\b.*\.128/.test(i.opcode);
export const isExponential = (i) => /^MUFU\.EX2/.test(i.opcode);
export const isSpecial = (i) => /^MUFU\./.test(i.opcode);
export const isFp64 = (i) => /^(DADD|DMUL|DFMA|DSETP|DMNMX|DMMA)\b|^MUFU\.\w*64|^(F2F|I2F|F2I|FRND)\b.*\bF64\b/.test(i.opcode);

/** A wait on an mbarrier spins in a loop of its own that goes over nothing. */
const isSpin = (loop, blocks) =>
  [...loop.blocks].every((b) => blocks[b].code.length <= 8 && !blocks[b].code.some((i) => isVectorAccess(i) || isExponential(i)));

/** Shuffles end a run as barriers do: what follows is about whole warps, not about logits. */
function splitAtBarriers(code) {
  const parts = [[]];
  for (const i of code) {
    if (isBarrier(i) || /^SHFL/.test(i.opcode)) parts.push([]);
    else parts.at(-1).push(i);
  }
  return parts.filter((p) => p.length);
}

const exponentials = (code) => code.filter(isExponential).length;

/**
 * The parts of a function that go over the vocabulary, each { kind: 'loop' | 'straight', code }:
 *  - innermost loops without a barrier that hold 16-byte accesses or 2^x;
 *  - elsewhere, runs of instructions between barriers with many 2^x, close to each other: a loop over a row that was unrolled altogether.
 *    A row's scalar part has two dozen of them for all losses together, among a thousand other instructions.
 */
export function vocabularyCode(code) {
  const blocks = basicBlocks(code);
  const loops = loopsOf(blocks).filter((l) => !isSpin(l, blocks));
  const leaves = loops.filter((l) => !loops.some((m) => m !== l && l.blocks.has(m.head) && m.blocks.size < l.blocks.size));
  const found = [];
  const covered = new Set();
  for (const loop of leaves) {
    const body = [...loop.blocks].sort((a, b) => a - b).flatMap((b) => blocks[b].code);
    if (body.some(isBarrier)) continue;
    loop.blocks.forEach((b) => covered.add(b));
    if (body.some((i) => isVectorAccess(i) || isExponential(i))) found.push({ kind: 'loop', code: body });
  }
  // Runs of neighbouring blocks; a loop in between ends one, and so does the way out.
  const runs = [[]];
  for (const b of blocks) {
    if (covered.has(b.index)) runs.push([]);
    else runs.at(-1).push(...b.code);
    if (isEnd(b.code.at(-1))) runs.push([]);
  }
  for (const part of runs.flatMap(splitAtBarriers))
    if (exponentials(part) >= 16 && part.length <= 20 * exponentials(part)) found.push({ kind: 'straight', code: part });
  return found;
}
