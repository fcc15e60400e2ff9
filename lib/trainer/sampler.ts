// What samples completions: the policy itself, or a user's rollout function.
import type { ChatMessage } from '../engine/chat.js';
import type { Policy } from '../engine/policy.js';
import { incompatible, invalidType } from '../errors.js';
import { hash31 } from '../random.js';
import { callWithRetries } from './calls.js';
import type { ResolvedGRPOConfig } from './config.js';
import type { Row } from './dataset.js';
import type { TrainerState } from './rewards.js';
import { checkRollout } from './rollout-check.js';
import type { RolloutFn, RolloutPrompt, RolloutRequest, SyncWeights } from './rollout-function.js';
import type { Completion } from './rollout.js';
import { WeightSync } from './weight-sync.js';

export interface SampleRequest {
  purpose: 'train' | 'eval';
  rows: Row[];
  promptTokens: Int32Array[];
  numGenerations: number;
  /** The likeliest token every time. */
  greedy: boolean;
  seed: number;
  /** Of the rollout; 0 in evaluations. */
  index: number;
  /** Prompts of the same rollout in earlier requests. */
  promptOffset: number;
  state: TrainerState;
  /** Optimizer steps that the weights have seen. */
  policyVersion: number;
}

export interface SampleContext {
  policy: Policy;
  config: ResolvedGRPOConfig;
  signal?: AbortSignal;
  /** Where completions come from elsewhere. */
  external?: ExternalSampler;
  /** Benchmarks: every completion gets its full length. */
  ignoreEos?: boolean;
}

type SamplingOptions = Pick<ResolvedGRPOConfig, 'temperature' | 'topK' | 'topP' | 'minP'>;

function samplingOf({ temperature, topK, topP, minP }: SamplingOptions, greedy: boolean): SamplingOptions {
  return greedy ? { temperature: 0, topK: 0, topP: 1 } : { temperature, topK, topP, minP };
}

/** numGenerations completions of each row, those of one row side by side. */
export async function sampleCompletions(context: SampleContext, request: SampleRequest): Promise<Completion[]> {
  const { policy, config, signal, external, ignoreEos } = context;
  if (external) return external.sample(policy, request, signal);
  const { completions } = await policy.generate(request.promptTokens, {
    ...samplingOf(config, request.greedy),
    numGenerations: request.numGenerations,
    maxNewTokens: config.maxCompletionLength,
    repetitionPenalty: config.repetitionPenalty,
    seed: request.seed,
    step: request.index,
    promptOffset: request.promptOffset,
    ignoreEos,
    signal,
  });
  return completions.map(({ text, tokens, logps, finishReason }) => ({ text, tokens, logps, finishReason }));
}

const PURPOSES = ['train', 'eval'] as const;
const NO_MASK = 'PPO has no use for one, as its critic would be taught the masked tokens as if the policy had chosen them';

/** A user's rollout function, and the weights that it is handed. */
export class ExternalSampler {
  readonly weights?: WeightSync;

  constructor(
    private readonly rollout: RolloutFn,
    syncWeights: SyncWeights | undefined,
    private readonly config: ResolvedGRPOConfig,
    /** PPO. */
    private readonly critic: boolean,
  ) {
    if (typeof rollout !== 'function') throw invalidType('rollout', 'an async function', rollout);
    if (syncWeights !== undefined) this.weights = new WeightSync(syncWeights, config);
  }

  async sample(policy: Policy, request: SampleRequest, signal?: AbortSignal): Promise<Completion[]> {
    const { rolloutTimeout: timeout, rolloutRetries: retries } = this.config;
    const asked = this.request(policy, request);
    const options = { timeout, retries, timeoutName: 'rolloutTimeout', code: 'ERR_ROLLOUT', signal } as const;
    const call = (own: AbortSignal) => this.rollout({ ...copied(asked), signal: own });
    const result = await callWithRetries('The rollout function', call, options);
    return checkRollout(result, {
      prompts: request.rows.length,
      numGenerations: request.numGenerations,
      maxCompletionLength: this.config.maxCompletionLength,
      vocabSize: policy.vocabSize,
      decode: (tokens) => (policy.tokenizer ? policy.decode(tokens) : ''),
      needsLogps: request.purpose === 'train' ? this.needsLogps() : undefined,
      refusesMask: this.critic ? NO_MASK : undefined,
    });
  }

  private needsLogps(): string | undefined {
    const { samplerImportanceSampling: mode, reuseSamplingLogps } = this.config;
    if (mode !== undefined && mode !== 'none') return `samplerImportanceSampling '${mode}'`;
    return reuseSamplingLogps ? 'reuseSamplingLogps' : undefined;
  }

  private request(policy: Policy, request: SampleRequest): Omit<RolloutRequest, 'signal'> {
    const { rows, promptTokens, purpose, seed, index, promptOffset } = request;
    const { maxCompletionLength, repetitionPenalty } = this.config;
    return {
      purpose,
      prompts: rows.map((row, i) => {
        const own = hash31(seed, PURPOSES.indexOf(purpose), index, promptOffset + i);
        return promptOf(policy, row, promptTokens[i]!, own);
      }),
      numGenerations: request.numGenerations,
      sampling: {
        ...samplingOf(this.config, request.greedy),
        ...{ repetitionPenalty, maxCompletionLength, stopTokenIds: [...policy.eosTokenIds] },
        ...{ seed, step: index, promptOffset },
      },
      trainerState: request.state,
      policyVersion: request.policyVersion,
      ...(this.weights ? { syncedVersion: this.weights.version! } : {}),
    };
  }
}

function promptOf(policy: Policy, row: Row, tokens: Int32Array, seed: number): RolloutPrompt {
  const prompt = row.prompt as string | ChatMessage[];
  if (typeof prompt === 'string') return { kind: 'text', text: prompt, tokens, row, seed };
  return { kind: 'chat', messages: prompt, text: policy.render(prompt), tokens, row, seed };
}

/** The function's own: it may keep or change what it is given, and a retry gets it as it was. */
function copied(request: Omit<RolloutRequest, 'signal'>): Omit<RolloutRequest, 'signal'> {
  const { prompts, sampling } = request;
  return {
    ...request,
    prompts: prompts.map((p) => ({ ...p, tokens: p.tokens.slice(), row: { ...p.row } })),
    sampling: { ...sampling, stopTokenIds: [...sampling.stopTokenIds] },
    trainerState: { ...request.trainerState },
  };
}

/** The trainer's options `rollout` and `syncWeights`. */
export function externalSampler(
  options: { rollout?: RolloutFn; syncWeights?: SyncWeights },
  config: ResolvedGRPOConfig,
  critic: boolean,
): ExternalSampler | undefined {
  const { rollout, syncWeights } = options;
  if (rollout === undefined && syncWeights !== undefined)
    throw incompatible('syncWeights belongs to `rollout`: without it the policy samples by itself');
  return rollout === undefined ? undefined : new ExternalSampler(rollout, syncWeights, config, critic);
}
