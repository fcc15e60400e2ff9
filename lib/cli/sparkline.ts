// A curve in a line of text.
const LEVELS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/** The whole of `values` in at most `width` characters, each the mean of its part; '' below two values. */
export function sparkline(values: readonly number[], width: number): string {
  const known = values.filter((v) => Number.isFinite(v));
  if (known.length < 2) return '';
  const cells = Math.min(width, known.length);
  const means = Array.from({ length: cells }, (_, i) => {
    const part = known.slice(Math.floor((i * known.length) / cells), Math.floor(((i + 1) * known.length) / cells));
    return part.reduce((a, b) => a + b, 0) / part.length;
  });
  const low = means.reduce((a, b) => Math.min(a, b));
  const high = means.reduce((a, b) => Math.max(a, b));
  return means.map((v) => LEVELS[high > low ? Math.round(((v - low) / (high - low)) * (LEVELS.length - 1)) : 3]!).join('');
}
