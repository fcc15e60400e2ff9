// What a training step costs on W ranks: docs/scaling.md explains the terms. Units: seconds, bytes, FLOP/s, bytes/s.

/**
 * @param {object} run parameters, weightBytes (of one weight), completions, promptLength, completionLength, numGenerations, layers, kvHeads,
 *   headDim, microBatchTokens, shardOptimizer
 * @param {object} machine trainFlops, generateFlops (of one rank, reached), memoryBandwidth (of one rank), bandwidth and latency (between
 *   ranks, of one rank's link), hidden (share of the exchange that the last backward hides), rewardSeconds (of one completion)
 */
export function stepCost(run, machine, ranks) {
  const { parameters: P, weightBytes, completions, promptLength, completionLength, numGenerations } = run;
  const own = Math.ceil(completions / numGenerations / ranks) * numGenerations; // whole groups are sampled by one rank
  const trainedTokens = (completions / ranks) * (completionLength + promptLength / numGenerations);
  const generated = own * completionLength;
  // Decoding reads the weights once for each token of the longest sequence, however many sequences there are: whichever is slower.
  const decode = Math.max((2 * P * generated) / machine.generateFlops, (completionLength * P * weightBytes) / machine.memoryBandwidth);
  const prefill = (2 * P * own * promptLength) / numGenerations / machine.trainFlops;
  const train = (6 * P * trainedTokens) / machine.trainFlops;
  // Ring: every rank sends and receives 2 (W - 1) / W of the gradients; sharded: reduced once, weights shared once.
  const gradients = 4 * P;
  const reduced = ranks === 1 ? 0 : ((2 * (ranks - 1)) / ranks) * gradients * (run.shardOptimizer ? 0.5 + weightBytes / 8 : 1);
  const messages = ranks === 1 ? 0 : 2 * (ranks - 1) * Math.ceil(P / Math.max(2 ** 20, ranks * 2 ** 17)); // native/torch/gradient_sum.cc
  const exchange = (reduced / machine.bandwidth + messages * machine.latency) * (1 - (machine.hidden ?? 0));
  // Every rank gets every completion: ids and log-probs, and the text (about four bytes a token).
  const gathered = ranks === 1 ? 0 : completions * (completionLength + promptLength / numGenerations) * 12;
  const gather = gathered / machine.bandwidth + (ranks === 1 ? 0 : 6 * ranks * machine.latency);
  const optimizer = (28 * P) / (run.shardOptimizer ? ranks : 1) / machine.memoryBandwidth; // reads and writes of AdamW
  const reward = own * (machine.rewardSeconds ?? 0);
  const parts = { generate: decode + prefill, reward, train, exchange, gather, optimizer };
  const total = Object.values(parts).reduce((a, b) => a + b, 0);
  return { ...parts, total, reducedBytes: reduced, gatheredBytes: gathered, tokensPerSecond: (completions * completionLength) / total };
}

/** Bytes that one rank holds. */
export function memoryOfRank(run, ranks) {
  const { parameters: P, weightBytes, shardOptimizer, layers, kvHeads, headDim, completions, promptLength, completionLength } = run;
  const divided = shardOptimizer ? ranks : 1;
  const cache = 2 * layers * kvHeads * headDim * weightBytes * (completions / ranks) * (promptLength + completionLength);
  return {
    weights: P * weightBytes,
    gradients: 4 * P,
    moments: (8 * P) / divided,
    masters: weightBytes < 4 ? (4 * P) / divided : 0,
    cache,
    rollout: 12 * completions * (completionLength + promptLength), // every rank holds the whole of it
  };
}
