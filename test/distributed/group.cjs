// One process of a group. argv: the built library, then the job as JSON: { nccl, plan, timeout, patience }. Prints what it found as JSON lines.
const [library, text] = process.argv.slice(2);
const job = JSON.parse(text);
const ranksModule = require(library.replace('index.js', 'distributed/ranks.js'));
const { joinRanks } = ranksModule;
ranksModule.joinRanks = (options) => joinRanks({ ...options, ncclOnly: job.nccl, patience: job.patience });
const { ProcessGroup, Tensor } = require(library);
const breakOff = new AbortController();
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const listed = async (tensor) => [...(await tensor.toArray())];

const plans = {
  async exchange(group) {
    const { rank, worldSize } = group;
    const many = Tensor.from(
      Float32Array.from({ length: 40_000 }, (_, i) => (i % 97) * (rank + 1)),
      [200, 200],
    );
    const few = Tensor.from(Float64Array.of(rank, 0.5), [2]);
    const whole = Tensor.from(Int32Array.of(rank + 1, 1 << 20), [2]);
    const empty = Tensor.from(new Float32Array(), [0, 3]);
    const ops = group.allReduce([many, few, empty]);
    const mean = Tensor.from(Float32Array.of(rank, 10 * rank), [2]);
    // calls that are made while others run keep their order
    await Promise.all([ops, group.allReduce(whole), group.barrier(), group.allReduce([mean], { op: 'mean' })]);
    const factor = (worldSize * (worldSize + 1)) / 2;
    const wrong = (await listed(many)).findIndex((v, i) => v !== (i % 97) * factor);
    const shared = Tensor.from(Float32Array.of(rank, -rank), [2]);
    const bytes = Tensor.from(Uint8Array.of(rank, 200 + rank), [2]);
    await group.broadcast([shared, bytes], worldSize - 1);
    const values = await group.gather({ rank, list: Float32Array.of(rank) });
    say({ rank, worldSize, device: group.device, wrong, few: await listed(few), whole: await listed(whole), mean: await listed(mean) });
    say({ shared: await listed(shared), bytes: await listed(bytes), values: values.map((v) => [v.rank, v.list[0]]) });
    await group.leave();
    await group.leave();
    say(await group.barrier().catch(({ code }) => code));
  },
  async again(group) {
    await group.leave();
    const next = await ProcessGroup.join({ ddpTimeout: job.timeout });
    const t = Tensor.from(Float32Array.of(1), [1]);
    await next.allReduce(t);
    say(await listed(t));
    await next.leave();
  },
  async differ(group) {
    const t = Tensor.from(new Float32Array(6).fill(1), group.rank === 1 ? [6] : [2, 3]);
    say(await group.allReduce(t).catch(({ code, message }) => ({ code, message })));
    const same = Tensor.from(Float32Array.of(1), [1]);
    await group.allReduce(same); // nothing was exchanged: it goes on
    say(await listed(same));
    await group.leave();
  },
  async die(group) {
    const t = Tensor.from(new Float32Array(300_000).fill(1), [300_000]);
    await group.allReduce(t);
    if (group.rank === 1) process.kill(process.pid, 'SIGKILL');
    const begin = performance.now();
    say(await group.allReduce(t).catch(({ code, message }) => ({ code, message, seconds: (performance.now() - begin) / 1000 })));
    say(await group.barrier().catch(({ code }) => code));
    await group.leave();
  },
  async late(group) {
    const warnings = [];
    process.on('warning', ({ message }) => warnings.push(message));
    group.setStep(3 + group.rank);
    await group.barrier();
    if (group.rank === 1) await new Promise((resolve) => setTimeout(resolve, 3500));
    await group.barrier();
    await new Promise(setImmediate);
    say(warnings);
    await group.leave();
  },
  async abort(group) {
    const t = Tensor.from(Float32Array.of(1), [1]);
    await group.barrier();
    if (group.rank === 0) setTimeout(() => breakOff.abort(new Error('enough')), 300);
    else await new Promise((resolve) => setTimeout(resolve, 900));
    say(await group.allReduce(t).catch(({ code, message }) => ({ code, message })));
    say(await group.barrier().catch(({ code, message }) => code ?? message));
    await group.leave();
  },
  async fail(group) {
    const t = Tensor.from(Float32Array.of(1), [1]);
    say(await group.allReduce(t).catch(({ code, message }) => ({ code, message })));
    await group.leave();
  },
};

ProcessGroup.join({ ddpTimeout: job.timeout, signal: breakOff.signal })
  .then(plans[job.plan])
  .catch(({ code, message }) => {
    say({ code, message });
    process.exitCode = 3;
  });
