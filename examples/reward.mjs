// A reward module for `npx fused-grpo train --reward examples/reward.mjs`.
// Each exported function is a reward function; its name appears in the metrics. Columns of the data set arrive by name (here: answer).

/** 1 when the completion holds the answer as a number of its own. */
export function correct({ completions, answer }) {
  return completions.map((completion, i) => {
    const text = typeof completion === 'string' ? completion : completion[0].content;
    return (text.match(/-?\d+/g) ?? []).includes(String(answer[i])) ? 1 : 0;
  });
}

/** A small bonus for being brief. */
export function brief({ completionTokens }) {
  return completionTokens.map((tokens) => 0.1 * Math.max(0, 1 - tokens.length / 64));
}
