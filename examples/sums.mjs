// Prompts for a first run, as JSON lines on stdout: sums of two numbers below 100, for the bundled model (demo/model) or any other.
//   node examples/sums.mjs > sums.jsonl
const count = Number(process.argv[2] ?? 2000);

// Every pair comes once: 7919 has no factor in common with 10,000.
for (let i = 0; i < count; ++i) {
  const pair = (i * 7919) % 10_000;
  const [a, b] = [Math.floor(pair / 100), pair % 100];
  console.log(JSON.stringify({ prompt: `${a}+${b}=`, answer: String(a + b) }));
}
