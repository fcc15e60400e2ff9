// One server: what it is, whether it can be asked, which weights it has.
import { pause } from '../trainer/calls.js';
import { detect, PROTOCOLS } from './detect.js';
import { HttpClient, RequestFailed } from './http.js';
import { areFull, isObject, unable, type Job, type LogprobsMode, type Protocol, type Weights } from './protocol.js';
import type { ResolvedOptions } from './options.js';
import { emptyNumbers, type ServerNumbers } from './stats.js';

/** Probes that find out what a server is, or whether it lives, do not take long. */
const PROBE_SECONDS = 20;

/** 'new': not asked yet. 'probation': back again, one request at a time until one succeeds. */
type State = 'new' | 'in' | 'probation' | 'out';

export class Server {
  readonly client: HttpClient;
  readonly name: string;
  protocol?: Protocol;
  state: State = 'new';
  outstanding = 0;
  lastError?: Error;
  numbers: ServerNumbers = emptyNumbers();
  /** The weights that this process knows it to have. */
  version?: number;
  /** Its answers name the weights that sampled them, so that nothing need be assumed. */
  namesVersions = false;
  private model?: string;
  private mode?: LogprobsMode;
  private failuresInRow = 0;
  private busySince = 0;

  constructor(
    readonly url: string,
    private readonly options: ResolvedOptions,
  ) {
    const { apiKey, headers, maxConcurrency } = options;
    const auth: Record<string, string> = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
    this.client = new HttpClient(url, { headers: { ...auth, ...headers }, connections: maxConcurrency + 2 });
    this.name = nameOf(url);
    this.model = options.model;
    if (options.server !== 'auto') this.protocol = PROTOCOLS[options.server];
    this.client.keepAlive = false; // until it is known what it is
  }

  /** Requests that it may be given now. */
  get room(): number {
    if (this.state === 'in') return this.options.maxConcurrency - this.outstanding;
    return this.state === 'probation' ? 1 - this.outstanding : 0;
  }

  begin(): void {
    if (this.outstanding++ === 0) this.busySince = performance.now();
  }

  end(): void {
    if (--this.outstanding === 0) this.numbers.busySeconds += (performance.now() - this.busySince) / 1000;
  }

  /** What has been counted since the last time. */
  takeNumbers(): ServerNumbers {
    const { numbers } = this;
    this.numbers = emptyNumbers();
    return numbers;
  }

  succeeded(): void {
    this.failuresInRow = 0;
    if (this.state === 'probation') this.state = 'in';
  }

  /** Whether it is out now, because of this. */
  failed(error: RequestFailed): boolean {
    this.lastError = error;
    ++this.numbers.failures;
    const { broken, unreachable } = error.details;
    // It may have the weights again that it was started with; one that names them will say so.
    const forgets = broken === true && !this.namesVersions;
    if (forgets) this.version = undefined;
    const gone = unreachable === true || forgets;
    if (++this.failuresInRow < this.options.failuresUntilOut && !gone && this.state !== 'probation') return false;
    this.takeOut(error);
    return true;
  }

  takeOut(error: Error): void {
    this.lastError = error;
    if (this.state !== 'out') ++this.numbers.outs;
    this.state = 'out';
    this.failuresInRow = 0;
  }

  /** Lives, is known for what it is, and has the weights that are wanted; then it is in. Throws RequestFailed where not (yet). */
  async admit(wanted: Weights | undefined, signal: AbortSignal): Promise<void> {
    const back = this.state === 'out';
    await this.know(signal);
    if (wanted && this.version !== wanted.policyVersion) await this.load(wanted, signal);
    this.state = back ? 'probation' : 'in';
  }

  private async know(signal: AbortSignal): Promise<Protocol> {
    const limits = { timeout: Math.min(PROBE_SECONDS, this.options.requestTimeout), signal };
    const protocol = (this.protocol ??= await detect(this.client, limits));
    this.client.keepAlive = protocol.closes !== true;
    await this.client.get(protocol.health, limits);
    if (protocol.kind === 'vllm' && this.model === undefined) this.model = await this.onlyModel(limits);
    return protocol;
  }

  private async onlyModel(limits: { timeout: number; signal: AbortSignal }): Promise<string> {
    const answer = await this.client.get('/v1/models', limits);
    const ids = (isObject(answer) && Array.isArray(answer.data) ? answer.data : []).map((m: { id?: unknown }) => String(m.id));
    if (ids.length !== 1) throw unable(`${this.url} serves ${ids.join(', ') || 'no model'}: say which with \`model\``);
    return ids[0]!;
  }

  async load(weights: Weights, signal: AbortSignal): Promise<void> {
    const protocol = await this.know(signal);
    const { reload, reloadTimeout, pathOnServer } = this.options;
    if (reload === 'none') return;
    const given = { ...weights, folder: pathOnServer(weights.folder) };
    if (typeof reload === 'function') await this.callReload(reload, given, signal);
    else if (protocol.reload) await protocol.reload(this.client, given, reloadTimeout, signal);
    else
      throw unable(
        `${this.url} is llama.cpp's server, which cannot load weights while it runs: give openAICompatible a \`reload\` function that converts the folder and starts it again (docs/rollouts.md), or reload: 'none' to sample from the weights that it has`,
      );
    this.version = weights.policyVersion;
    this.namesVersions = false; // until an answer does
  }

  private async callReload(reload: Exclude<ResolvedOptions['reload'], string>, weights: Weights, signal: AbortSignal): Promise<void> {
    const { folder, policyVersion } = weights;
    const end = performance.now() + this.options.reloadTimeout * 1000;
    await reload({ url: this.url, folder, policyVersion, signal });
    for (;;) {
      const alive = await this.client.get(this.protocol!.health, { timeout: PROBE_SECONDS, signal }).then(
        () => true,
        (error: unknown) => {
          if (!(error instanceof RequestFailed) || performance.now() > end) throw error;
          return false;
        },
      );
      if (alive) return;
      await pause(Math.min(1, this.options.healthInterval) * 1000, signal);
    }
  }

  /** What its log-probs are of, under these options of sampling. */
  private async modeOf(job: Job, signal: AbortSignal): Promise<LogprobsMode> {
    const { logprobsMode, requestTimeout } = this.options;
    const protocol = this.protocol!;
    if (logprobsMode !== 'auto' && protocol.kind !== 'llama.cpp') return logprobsMode;
    if (protocol.logprobsMode) return protocol.logprobsMode(job.sampling);
    if (areFull('raw', job.sampling) && areFull('processed', job.sampling)) return 'raw'; // the same numbers
    this.mode ??= await protocol.probeMode!(this.client, this.model, job.tokens, requestTimeout, signal);
    return this.mode;
  }

  /** The answer to a job, and whether its log-probs are those that the sampler correction needs. */
  async ask(job: Job, version: string | undefined, signal: AbortSignal) {
    const { extraBody, requestTimeout } = this.options;
    const protocol = this.protocol!;
    const mode = job.logprobs ? await this.modeOf(job, signal) : undefined;
    if (mode && !areFull(mode, job.sampling)) throw unable(this.whyNotFull(mode));
    const body = { ...protocol.body(job, this.model, mode), ...extraBody };
    const headers: Record<string, string> = version === undefined ? {} : { 'x-policy-version': version };
    const answer = await this.client.post(protocol.path, body, { timeout: requestTimeout, signal }, headers);
    return protocol.read(answer, job, `${this.url}${protocol.path}`);
  }

  private whyNotFull(mode: LogprobsMode): string {
    const off = 'or do without the sampler correction: openAICompatible({ samplerLogps: false })';
    const of = {
      raw: 'at temperature 1, not at `temperature`: set temperature 1, start vLLM with --logprobs-mode processed_logprobs (without topP, topK, minP and repetitionPenalty)',
      tempered: 'taken after the repetition penalty: set repetitionPenalty 1',
      processed:
        'of the tokens that topP, topK, minP and repetitionPenalty leave, not of the full distribution: do without those, set temperature 1 (vLLM: with --logprobs-mode raw_logprobs, its default)',
    }[mode];
    return `The log-probs of ${this.url} are ${of}, ${off}`;
  }
}

/** For metrics, where a dot parts levels: 127-0-0-1_8000. */
function nameOf(url: string): string {
  const { host, pathname } = new URL(url);
  return `${host}${pathname}`.replace(/\/+$/, '').replace(/\./g, '-').replace(/[^\w-]+/g, '_'); // prettier-ignore
}
