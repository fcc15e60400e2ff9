// A rollout function that asks inference servers.
import type { RolloutCompletion, RolloutFn, RolloutRequest, RolloutResult, SyncWeights } from '../trainer/rollout-function.js';
import { resolveOptions, type OpenAICompatibleOptions, type ResolvedOptions } from './options.js';
import { Pool } from './pool.js';
import type { Answered, Job } from './protocol.js';

/** What openAICompatible makes: the trainer's `rollout`. It brings the trainer's `syncWeights`, unless `reload` is 'none'. */
export interface ServerRollout extends RolloutFn {
  /** Writes nothing itself: the trainer writes the folder, and its hook has the servers load it. */
  syncWeights?: SyncWeights;
}

const labelOf = (policyVersion: number): string => `step-${policyVersion}`;

const MOST_SEED = 2 ** 31; // llama.cpp's are 32 bits

function jobsOf({ prompts, numGenerations, sampling, purpose }: RolloutRequest, most: number, options: ResolvedOptions): Job[] {
  const size = Math.min(options.completionsPerRequest ?? Infinity, most, numGenerations);
  const { ignoreEos } = options;
  // Of a greedy completion nobody asks how likely it was.
  const logprobs = options.samplerLogps && purpose === 'train';
  return prompts.flatMap(({ tokens, seed }, prompt) =>
    Array.from({ length: Math.ceil(numGenerations / size) }, (_, k): Job => {
      const first = k * size;
      const count = Math.min(size, numGenerations - first);
      return { prompt, first, count, tokens: [...tokens], seed: (seed + first) % MOST_SEED, sampling, ignoreEos, logprobs };
    }),
  );
}

let warned = false;

/** llama.cpp says nothing of a token that ends within a character; the correction needs all or none. */
function warnOfMissing(): void {
  if (warned) return;
  warned = true;
  process.emitWarning(
    'llama.cpp gives no log-prob for a token that ends within a character: a rollout with one is trained on without the sampler correction',
    'FusedGrpoWarning',
  );
}

function completionOf({ tokens, logps, finishReason }: Answered, known: boolean, policyVersion: number | undefined): RolloutCompletion {
  return {
    ...{ tokens, finishReason },
    ...(known ? { samplerLogps: logps! } : {}),
    ...(policyVersion === undefined ? {} : { policyVersion }),
  };
}

async function rollOut(pool: Pool, request: RolloutRequest, options: ResolvedOptions): Promise<RolloutResult> {
  const { syncedVersion, syncedFolder } = request;
  if (options.reload !== 'none' && syncedVersion !== undefined && syncedFolder !== undefined)
    pool.learn({ folder: syncedFolder, policyVersion: syncedVersion, label: labelOf(syncedVersion) });
  try {
    const { jobs, answers } = await pool.ask((most) => jobsOf(request, most, options), request.signal);
    const groups: Answered[][] = request.prompts.map(() => []);
    jobs.forEach((job, j) => answers[j]!.forEach((answered, i) => (groups[job.prompt]![job.first + i] = answered)));
    const wanted = options.samplerLogps && request.purpose === 'train';
    const known = wanted && groups.every((group) => group.every(({ logps }) => logps));
    if (wanted && !known) warnOfMissing();
    const version = options.reload === 'none' ? undefined : syncedVersion;
    return groups.map((group) => group.map((answered) => completionOf(answered, known, version)));
  } finally {
    request.report?.(pool.takeReport());
  }
}

/**
 * Completions by one or several inference servers, vLLM, SGLang or llama.cpp's llama-server: by token ids, with log-probs. Requests go to the
 * server with the fewest under way, are tried again elsewhere, and a server that fails is left out until it lives and has the weights again.
 *
 *     new GRPOTrainer({ model, rewardFuncs, trainDataset, config, rollout: openAICompatible({ urls: ['http://10.0.0.1:8000'] }) })
 *
 * The trainer hands its weights over by it, too: a folder in Hugging Face layout, and the server's own call that loads it (see `reload`).
 * Errors: TypeError/RangeError for options, at once; in a call FusedGrpoError ERR_ROLLOUT: a server that cannot give token ids, or
 * log-probs that the sampler correction can use, or takes no weights; a request refused, or failed after its `retries`; no server for
 * `patience` seconds.
 */
export function openAICompatible(given: OpenAICompatibleOptions): ServerRollout {
  const options = resolveOptions(given);
  const pool = new Pool(options);
  const rollout: ServerRollout = (request) => rollOut(pool, request, options);
  if (options.reload !== 'none')
    rollout.syncWeights = {
      every: options.every,
      ...(options.folder === undefined ? {} : { folder: options.folder }),
      hook: ({ folder, policyVersion, signal }) => pool.load({ folder, policyVersion, label: labelOf(policyVersion) }, signal),
    };
  return rollout;
}
