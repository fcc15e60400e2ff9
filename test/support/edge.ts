// One edge of an op, or one mistake that its kernel finds, with the answer worked out by hand; and how it is checked.

export interface Edge {
  name: string;
  run: () => unknown;
  /** The result's fields that are checked; numbers within 1e-6, and 0 exactly. */
  gives?: Record<string, unknown>;
  /** The error: class, code, message. */
  fails?: string;
}

export const f = (...values: number[]) => Float32Array.from(values);
export const ints = (...values: number[]) => Int32Array.from(values);
export const bytes = (...values: number[]) => Uint8Array.from(values);
export const notFinite = (what: string) => `RangeError ERR_NON_FINITE Expected a finite number for ${what}`;
export const [one, nan] = [{ completionLength: 1 }, NaN];

function compare(what: string, got: unknown, want: unknown): void {
  if (typeof want === 'number') {
    const good = want === 0 ? Object.is(got, 0) : Math.abs((got as number) - want) <= 1e-6 * Math.abs(want);
    if (!good) throw new Error(`${what}: got ${Object.is(got, -0) ? '-0' : got}, want ${want}`);
    return;
  }
  const [mine, theirs] = [got as Record<string, unknown>, want as Record<string, unknown>];
  if (Array.isArray(want)) compare(`${what}.length`, mine.length, want.length);
  for (const key of Object.keys(theirs)) compare(`${what}.${key}`, mine[key], theirs[key]);
}

/** Throws when the result, or the error, is not what the edge says. */
export function checkEdge({ run, gives, fails }: Edge): void {
  let result: unknown;
  try {
    result = run();
  } catch (error) {
    const e = error as Error & { code?: string };
    const text = `${e.constructor.name} ${e.code} ${e.message}`;
    if (text !== fails) throw new Error(`got: ${text}\nwant: ${fails ?? 'no error'}`, { cause: error });
    return;
  }
  if (fails) throw new Error(`got a result, want: ${fails}`);
  compare('result', result, gives);
}
