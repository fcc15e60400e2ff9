// GRPO, RLOO, REINFORCE and PPO on the demo's task with equal generated tokens, and a step of GRPO and PPO at SmolLM2-135M's shape.
// node benchmarks/algorithms.mjs [--quick]   writes benchmarks/algorithms.json (with --quick only prints); docs/ppo.md and its plot are made
//                                            of it: node scripts/plots.mjs && node scripts/docs.mjs
// node benchmarks/algorithms.mjs --only PPO,larger   these again; the others stay as they are in the file
// node benchmarks/algorithms.mjs --tune      the learning rates below: every candidate on a seed of its own, the best by reward
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const here = import.meta.dirname;
const flag = { type: 'boolean', default: false };
const { values: options } = parseArgs({ options: { quick: flag, tune: flag, only: { type: 'string' } } });
const COMPLETIONS = 256; // of a rollout, for all of them
const TOKENS = options.quick ? 20_000 : 120_000;
const SEEDS = options.quick ? [1] : [1, 2, 3];
const TUNING_SEED = 1000;
const TOKENS_PER_COMPLETION = 3.45; // never more rollouts are needed: the schedule is made for as many

const grouped = { numGenerations: 4, scaleRewards: 'group', lossType: 'dapo' };
const rloo = { numGenerations: 4, lossType: 'reinforce', baseline: 'leave_one_out', scaleRewards: 'none' }; // presets.rloo
const alone = { numGenerations: 1, lossType: 'reinforce', baseline: 'batch_mean', scaleRewards: 'none' };
const critic = { numGenerations: 1, beta: 0, vfCoef: 1, gamma: 1 };
/** What distinguishes them; learning rates and epochs by --tune. */
const ALGORITHMS = {
  GRPO: { config: { ...grouped, learningRate: 5e-4, numIterations: 4 } },
  RLOO: { config: { ...rloo, learningRate: 5e-4 } },
  REINFORCE: { config: { ...alone, learningRate: 1e-3 } },
  PPO: { ppo: true, config: { ...critic, learningRate: 5e-4, valueLearningRate: 1.5e-3, lam: 0.95, numIterations: 4 } },
};
const rates = (...values) => values.map((learningRate) => ({ learningRate }));
const times = (list, ...more) => list.flatMap((one) => more.map((other) => ({ ...one, ...other })));
const epochs = (...values) => values.map((numIterations) => ({ numIterations }));
const CANDIDATES = {
  GRPO: times(times(rates(2.5e-4, 5e-4, 1e-3), ...epochs(1, 2, 4)), { numGenerations: 8 }, { numGenerations: 4 }),
  RLOO: times(rates(2.5e-4, 5e-4, 1e-3), { numGenerations: 8 }, { numGenerations: 4 }),
  REINFORCE: rates(2.5e-4, 5e-4, 1e-3, 2e-3),
  PPO: [
    ...times(
      [
        { learningRate: 5e-4, valueLearningRate: 1.5e-3 },
        { learningRate: 1e-3, valueLearningRate: 3e-3 },
      ],
      { numIterations: 1, lam: 0.95 },
      { numIterations: 1, lam: 1 },
      { numIterations: 2, lam: 0.95 },
    ),
    { learningRate: 2.5e-4, valueLearningRate: 1e-3, numIterations: 4, lam: 0.95 },
    { learningRate: 5e-4, valueLearningRate: 1.5e-3, numIterations: 4, lam: 0.95 },
    { learningRate: 5e-4, valueLearningRate: 5e-4, numIterations: 2, lam: 0.95 },
  ],
};

function child(job) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(here, 'algorithms-run.mjs'), JSON.stringify(job)], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(`${job.task} failed: ${stderr.slice(-2000)}`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

function learn({ ppo = false, config }, seed, more = {}, tokenBudget = TOKENS) {
  const rollouts = Math.ceil(tokenBudget / (COMPLETIONS * TOKENS_PER_COMPLETION));
  const whole = {
    perDeviceTrainBatchSize: COMPLETIONS,
    maxCompletionLength: 4,
    lrSchedulerType: 'linear',
    warmupSteps: 5,
    ...config,
    ...more,
  };
  const maxSteps = rollouts * (whole.numIterations ?? 1);
  return child({ task: 'learn', ppo, seed, tokenBudget, evaluations: 8, config: { ...whole, maxSteps } });
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const lateReward = ({ curve }) => mean(curve.slice(-Math.ceil(curve.length / 10)).map(([, reward]) => reward));
const round = (x, digits = 4) => Number(x.toPrecision(digits));

/** Held-out accuracy is not looked at: the candidate with the highest reward in the last tenth wins. */
function tune() {
  for (const [name, candidates] of Object.entries(CANDIDATES)) {
    const found = candidates.map((more) => {
      const run = learn(ALGORITHMS[name], TUNING_SEED, more);
      console.log(
        name,
        JSON.stringify(more),
        'reward',
        lateReward(run).toFixed(3),
        `${run.seconds.toFixed(0)} s, ${run.cpuSeconds.toFixed(0)} s of CPU`,
      );
      return { more, reward: lateReward(run) };
    });
    console.log(`  ${name}: ${JSON.stringify(found.reduce((a, b) => (a.reward >= b.reward ? a : b)).more)}`);
  }
}

/** A curve of at most `points` points, each the mean of its neighbours. */
function thin(curve, points) {
  const size = Math.ceil(curve.length / points);
  const parts = Array.from({ length: Math.ceil(curve.length / size) }, (_, i) => curve.slice(i * size, (i + 1) * size));
  return parts.map((part) => [Math.round(mean(part.map(([x]) => x))), round(mean(part.map(([, y]) => y)))]);
}

function compare(name, algorithm) {
  const runs = SEEDS.map((seed) => {
    const run = learn(algorithm, seed);
    console.log(
      `${name} seed ${seed}: ${(100 * run.accuracy).toFixed(1)} % held out, ${run.seconds.toFixed(1)} s, ${run.cpuSeconds.toFixed(1)} s of CPU, ${run.tokens} tokens`,
    );
    const heldOut = run.heldOut.map(([tokens, accuracy, cpuSeconds]) => [tokens, round(accuracy), round(cpuSeconds)]);
    return {
      ...run,
      reward: round(lateReward(run)),
      seconds: round(run.seconds),
      cpuSeconds: round(run.cpuSeconds),
      curve: thin(run.curve, 40),
      heldOut,
    };
  });
  return { name, config: algorithm.config, stateBytes: stateBytes(demoParameters(), name, algorithm.config), runs };
}

const shape = { promptLength: 64, maxCompletionLength: 64, completions: 4 };
const common = { perDeviceTrainBatchSize: shape.completions, maxCompletionLength: shape.maxCompletionLength, learningRate: 1e-6 };
const STEPS = [
  { name: 'GRPO', algorithm: 'GRPO', config: { ...common, numGenerations: shape.completions } },
  { name: 'PPO, one epoch, no reference', algorithm: 'PPO', config: { ...common, numIterations: 1, beta: 0 } },
  { name: 'PPO by default (four epochs, a reference)', algorithm: 'PPO', config: common },
];

/** Every parameter in float32: weights, gradients and two moments; a reference has weights alone. */
const stateBytes = (parameters, algorithm, { beta }) => 4 * parameters * (algorithm === 'PPO' ? 8 + (beta === 0 ? 0 : 1) : 4);

function demoParameters() {
  const bytes = readFileSync(join(here, '..', 'demo', 'model', 'model.safetensors'));
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString());
  return Object.values(header).reduce((sum, { shape }) => sum + (shape?.reduce((a, b) => a * b, 1) ?? 0), 0);
}

function steps() {
  const folder = mkdtempSync(join(tmpdir(), 'algorithms-'));
  try {
    const { parameters } = child({ task: 'makeSmol', folder });
    const rows = STEPS.map((s) => {
      const job = { task: 'step', model: folder, ppo: s.algorithm === 'PPO', config: s.config, promptLength: shape.promptLength };
      const { seconds, cpuSeconds, generateSeconds, scoreSeconds, peakRssBytes } = child({ ...job, rollouts: options.quick ? 1 : 2 });
      console.log(
        `${s.name}: ${seconds.toFixed(1)} s a rollout, ${cpuSeconds.toFixed(1)} s of CPU, ${(peakRssBytes / 2 ** 20).toFixed(0)} MB`,
      );
      const times = {
        seconds: round(seconds),
        cpuSeconds: round(cpuSeconds),
        generateSeconds: round(generateSeconds),
        scoreSeconds: round(scoreSeconds),
      };
      return { name: s.name, ...times, peakRssBytes, stateBytes: stateBytes(parameters, s.algorithm, s.config) };
    });
    return { parameters, shape, rows };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (options.tune) tune();
else {
  const begin = performance.now();
  const file = join(here, 'algorithms.json');
  const before = options.only === undefined ? undefined : JSON.parse(readFileSync(file, 'utf8'));
  const wanted = (name) => before === undefined || options.only.split(',').includes(name);
  const algorithms = Object.entries(ALGORITHMS).map(([name, algorithm]) =>
    wanted(name) ? compare(name, algorithm) : before.algorithms.find((a) => a.name === name),
  );
  const larger = wanted('larger') ? steps() : before.larger;
  console.log(`${((performance.now() - begin) / 60_000).toFixed(1)} minutes`);
  const machine = { cores: cpus().length, model: cpus()[0].model, node: process.version };
  const result = { machine, tokenBudget: TOKENS, completionsPerRollout: COMPLETIONS, algorithms, larger };
  const text = JSON.stringify(result).replaceAll('{"seed"', '\n{"seed"').replaceAll('{"name"', '\n{"name"');
  if (!options.quick) writeFileSync(file, text + '\n');
}
