// What samples completions: the policy itself, or a user's rollout function.
import type { Policy } from '../engine/policy.js';
import { FusedGrpoError, incompatible, invalidType } from '../errors.js';
import { hash31 } from '../random.js';
import { addReports, emptyReport, type RolloutReport } from '../rollouts/stats.js';
import { callWithRetries, pause } from './calls.js';
import type { ResolvedGRPOConfig } from './config.js';
import type { Row } from './dataset.js';
import type { AnyRow, TrainerState } from './reward-types.js';
import { checkRollout } from './rollout-check.js';
import type { RolloutFn, RolloutPrompt, RolloutRequest, SyncWeights } from './rollout-function.js';
import type { Completion } from './rollout.js';
import { staleAnyway } from './schedule.js';
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

/** What a call is given, but for what belongs to that call alone. */
type Asked = Omit<RolloutRequest, 'signal' | 'report'>;

const MOST_REDRAWS = 3;
const REDRAW_PAUSE = 500; // milliseconds, longer with each time
const PURPOSES = ['train', 'eval'] as const;
const NO_MASK = 'PPO has no use for one, as its critic would be taught the masked tokens as if the policy had chosen them';

/** A user's rollout function, and the weights that it is handed. */
export class ExternalSampler {
  readonly weights?: WeightSync;
  private reports: RolloutReport[] = [];

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

  /** What training's calls have reported since the last time. */
  takeReport(): RolloutReport | undefined {
    const { reports } = this;
    this.reports = [];
    return reports.length ? addReports(reports) : undefined;
  }

  /** Prompts of which a completion is staler than maxStaleness allows are asked for again, a little later each time. */
  async sample(policy: Policy, request: SampleRequest, signal?: AbortSignal): Promise<Completion[]> {
    const asked = this.request(policy, request);
    const { numGenerations: size } = request;
    const completions = await this.call(policy, request, asked, signal);
    for (let attempt = 1; ; ++attempt) {
      const stale = asked.prompts
        .map((_, p) => p)
        .filter((p) => completions.slice(p * size, (p + 1) * size).some((c) => this.isStale(c, request)));
      if (stale.length === 0) return completions;
      if (attempt > MOST_REDRAWS) throw this.tooStale(completions, request);
      this.reports.push({ ...emptyReport(), stale: stale.length * size });
      await pause(REDRAW_PAUSE * attempt, signal);
      const again = await this.call(policy, request, { ...asked, prompts: stale.map((p) => asked.prompts[p]!) }, signal);
      stale.forEach((p, k) => completions.splice(p * size, size, ...again.slice(k * size, (k + 1) * size)));
    }
  }

  /** The oldest weights whose samples may be trained on to the end of their rollout. */
  private oldest({ purpose, policyVersion }: SampleRequest): number {
    const { maxStaleness } = this.config;
    return purpose === 'eval' || maxStaleness === undefined ? 0 : policyVersion + staleAnyway(this.config) - maxStaleness;
  }

  private isStale({ policyVersion }: Completion, request: SampleRequest): boolean {
    return policyVersion! < this.oldest(request);
  }

  private tooStale(completions: Completion[], request: SampleRequest): FusedGrpoError {
    const i = completions.findIndex((c) => this.isStale(c, request));
    const where = `prompt ${Math.floor(i / request.numGenerations)}, completion ${i % request.numGenerations}`;
    return new FusedGrpoError(
      'ERR_ROLLOUT',
      `The rollout function: ${where} was sampled by the weights of optimizer step ${completions[i]!.policyVersion}; maxStaleness ${this.config.maxStaleness} asks for those of ${this.oldest(request)} or newer, and so it was asked ${MOST_REDRAWS + 1} times`,
    );
  }

  private async call(policy: Policy, request: SampleRequest, asked: Asked, signal?: AbortSignal): Promise<Completion[]> {
    const { rolloutTimeout: timeout, rolloutRetries: retries } = this.config;
    const options = { timeout, retries, timeoutName: 'rolloutTimeout', code: 'ERR_ROLLOUT', signal } as const;
    const report = (numbers: RolloutReport) => void (request.purpose === 'train' && this.reports.push(numbers));
    const call = (own: AbortSignal) => this.rollout({ ...copied(asked), report, signal: own });
    const result = await callWithRetries('The rollout function', call, options);
    return checkRollout(result, {
      prompts: asked.prompts.length,
      numGenerations: request.numGenerations,
      maxCompletionLength: this.config.maxCompletionLength,
      vocabSize: policy.vocabSize,
      decode: (tokens) => (policy.tokenizer ? policy.decode(tokens) : ''),
      policyVersion: asked.syncedVersion ?? request.policyVersion,
      needsLogps: request.purpose === 'train' ? this.needsLogps() : undefined,
      refusesMask: this.critic ? NO_MASK : undefined,
    });
  }

  private needsLogps(): string | undefined {
    const { samplerImportanceSampling: mode, reuseSamplingLogps, maxStaleness } = this.config;
    if (mode !== undefined && mode !== 'none') return `samplerImportanceSampling '${mode}'`;
    if (maxStaleness !== undefined && mode !== 'none') return `maxStaleness (unless samplerImportanceSampling is 'none')`;
    return reuseSamplingLogps ? 'reuseSamplingLogps' : undefined;
  }

  private request(policy: Policy, request: SampleRequest): Asked {
    const { rows, promptTokens, purpose, seed, index, promptOffset } = request;
    const { maxCompletionLength, repetitionPenalty } = this.config;
    return {
      purpose,
      prompts: rows.map((row, i) => {
        const own = hash31(seed, PURPOSES.indexOf(purpose), index, promptOffset + i);
        return promptOf(policy, row as AnyRow, promptTokens[i]!, own);
      }),
      numGenerations: request.numGenerations,
      sampling: {
        ...samplingOf(this.config, request.greedy),
        ...{ repetitionPenalty, maxCompletionLength, stopTokenIds: [...policy.eosTokenIds] },
        ...{ seed, step: index, promptOffset },
      },
      trainerState: request.state,
      policyVersion: request.policyVersion,
      ...(this.weights ? { syncedVersion: this.weights.version!, syncedFolder: this.weights.where! } : {}),
    };
  }
}

function promptOf(policy: Policy, row: AnyRow, tokens: Int32Array, seed: number): RolloutPrompt {
  const { prompt } = row;
  if (typeof prompt === 'string') return { kind: 'text', text: prompt, tokens, row, seed };
  return { kind: 'chat', messages: prompt, text: policy.render(prompt), tokens, row, seed };
}

/** The function's own: it may keep or change what it is given, and a retry gets it as it was. */
function copied(request: Asked): Asked {
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
  const { rollout } = options;
  if (options.syncWeights !== undefined && rollout?.syncWeights !== undefined)
    throw incompatible("`rollout` brings its own syncWeights (openAICompatible: reload 'none' turns it off): leave the option out");
  const syncWeights = options.syncWeights ?? rollout?.syncWeights;
  if (rollout === undefined && syncWeights !== undefined)
    throw incompatible('syncWeights belongs to `rollout`: without it the policy samples by itself');
  return rollout === undefined ? undefined : new ExternalSampler(rollout, syncWeights, config, critic);
}
