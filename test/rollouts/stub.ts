// An inference server for tests, with faults at will: the requests and answers of vLLM 0.33, SGLang 0.5 and llama.cpp's llama-server. It
// samples by a given function (a real model, or numbers made of prompt and seed), so that right answers are known.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Fault =
  | 'slow' // answers never; the connection stays open
  | 'drop' // closes the connection without an answer
  | 'cut' // half of the answer, then closes
  | 'half' // half of the JSON, as if it were whole
  | 'page' // an error page with status 200
  | 'fewer' // a completion less than asked for
  | 'no-ids'
  | 'few-logps'
  | 'no-logps'
  | 'aborted'
  | number; // a status

export interface Sampled {
  tokens: number[];
  logps: number[];
  finishReason: 'stop' | 'length';
}
export interface SampleInput {
  tokens: number[];
  seed: number;
  maxTokens: number;
  temperature: number;
  body: Record<string, unknown>;
}

/** Three tokens and the end token 0, of prompt and seed. */
export function made({ tokens, seed, maxTokens }: Pick<SampleInput, 'tokens' | 'seed' | 'maxTokens'>): Sampled {
  const start = tokens.reduce((a, b) => (a * 31 + b) % 1009, 7);
  const all = [0, 1, 2].map((t) => 1 + ((start + seed * 17 + t * 5) % 11)).concat(0).slice(0, maxTokens); // prettier-ignore
  return { tokens: all, logps: all.map((id, t) => -(id + 1) / (t + 8)), finishReason: all.at(-1) === 0 ? 'stop' : 'length' };
}

export interface StubOptions {
  kind: 'vllm' | 'sglang' | 'llama.cpp' | 'other';
  sample?: (input: SampleInput) => Sampled | Promise<Sampled>;
  /** What happens to the n-th request for completions (from 0) instead of an answer. */
  fault?: (n: number, body: Record<string, unknown>) => Fault | undefined;
  /** vLLM: an older one takes no path and names no weights. */
  older?: boolean;
  /** vLLM without VLLM_SERVER_DEV_MODE. */
  noReload?: boolean;
  /** vLLM's --logprobs-mode, as far as its probe sees it. */
  processed?: boolean;
  /** The folder that vLLM was started with. */
  root?: string;
  onReload?: (folder: string) => void | Promise<void>;
  /** Seconds that an answer takes. */
  seconds?: number;
  key?: string;
  port?: number;
}

export class Stub {
  readonly requests: { path: string; body: Record<string, unknown>; headers: IncomingMessage['headers'] }[] = [];
  /** Name of its weights, as SGLang and newer vLLM have one. */
  version = 'default';
  reloads: string[] = [];
  healthy = true;
  /** Most requests for completions at once. */
  most = 0;
  aborted = 0;
  private now = 0;
  private count = 0;
  private server!: Server;
  port = 0;

  constructor(readonly options: StubOptions) {}

  static async start(options: StubOptions): Promise<Stub> {
    const stub = new Stub(options);
    await stub.listen(options.port ?? 0);
    return stub;
  }

  async listen(port = this.port): Promise<void> {
    this.server = createServer((request, response) => void this.handle(request, response));
    await new Promise<void>((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.port = (this.server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** As a process that dies. Its weights are gone with it. */
  async die(): Promise<void> {
    this.version = 'default';
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeAllConnections();
    await closed;
  }

  get asked(): Record<string, unknown>[] {
    return this.requests.filter((r) => COMPLETIONS.has(r.path)).map((r) => r.body);
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += String(chunk);
    const body = (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>;
    const path = request.url!;
    this.requests.push({ path, body, headers: request.headers });
    const { key } = this.options;
    if (key !== undefined && request.headers.authorization !== `Bearer ${key}`) return void response.writeHead(401).end('no key');
    if (COMPLETIONS.get(path) === this.options.kind) return this.complete(body, response);
    const [status, answer] = await this.other(path, body);
    response.writeHead(status, { 'content-type': 'application/json' }).end(answer === undefined ? '' : JSON.stringify(answer));
  }

  private async other(path: string, body: Record<string, unknown>): Promise<[number, unknown?]> {
    const { kind, older, noReload, root = '/model', onReload } = this.options;
    if (path === '/health') return [this.healthy ? 200 : 503];
    if (path === '/v1/models') return [200, { data: [{ id: 'policy', root }] }];
    if (kind === 'sglang' && path === '/model_info') return [200, { model_path: root, is_generation: true, weight_version: this.version }];
    if (kind === 'sglang' && path === '/update_weights_from_disk') {
      await onReload?.(String(body.model_path));
      this.reloads.push(String(body.model_path));
      this.version = String(body.weight_version);
      return [200, { success: true, message: 'done', num_paused_requests: 0 }];
    }
    if (kind === 'llama.cpp' && path === '/props') return [200, { default_generation_settings: {}, total_slots: 4 }];
    if (kind !== 'vllm') return [404, { error: 'no such path' }];
    if (path === '/version') return [200, { version: '0.33.0' }];
    if (noReload) return [404, { detail: 'Not Found' }];
    if (path === '/collective_rpc') {
      const given = (body.kwargs as { weights_path?: string } | undefined)?.weights_path;
      if (older && given !== undefined) return [500, { error: "unexpected keyword argument 'weights_path'" }];
      const from = given ?? root;
      await onReload?.(from);
      this.reloads.push(from);
      return [200, { results: [null] }];
    }
    if (path === '/reset_prefix_cache') return [200, { success: true }];
    if (path === '/update_weight_version' && !older) return ((this.version = String(body.new_version)), [200, { success: true }]);
    return [404, { detail: 'Not Found' }];
  }

  private async complete(body: Record<string, unknown>, response: ServerResponse): Promise<void> {
    this.most = Math.max(this.most, ++this.now);
    let answered = false;
    response.on('close', () => {
      --this.now;
      if (!answered) ++this.aborted;
    });
    const isProbe = body.top_k === 1 && body.ignore_eos === true;
    const fault = isProbe ? undefined : this.options.fault?.(this.count++, body);
    if (this.options.seconds) await new Promise((resolve) => setTimeout(resolve, this.options.seconds! * 1000));
    if (fault === 'slow') return;
    if (fault === 'drop') return void response.destroy();
    answered = true;
    if (typeof fault === 'number') return void response.writeHead(fault).end('as you wish');
    if (fault === 'page') return void response.end('<html>Bad gateway</html>');
    const text = JSON.stringify(await this.answer(body, fault));
    if (fault === 'half') return void response.end(text.slice(0, text.length / 2));
    if (fault === 'cut') {
      response.writeHead(200, { 'content-length': text.length });
      return void response.write(text.slice(0, text.length / 2), () => response.destroy());
    }
    response.end(text);
  }

  private async answer(b: Record<string, unknown>, fault: Fault | undefined): Promise<unknown> {
    const { kind, sample = made, older, processed } = this.options;
    const s = (b.sampling_params ?? {}) as Record<string, unknown>;
    const tokens = (b.input_ids ?? b.prompt) as number[];
    const seed = Number(s.sampling_seed ?? b.seed ?? 0);
    const maxTokens = Number(s.max_new_tokens ?? b.max_tokens ?? b.n_predict);
    const temperature = Number(s.temperature ?? b.temperature);
    const n = fault === 'fewer' ? Number(b.n) - 1 : Number(b.n ?? 1);
    const all = await Promise.all(
      Array.from({ length: n }, (_, i) => Promise.resolve(sample({ tokens, seed: seed + i, maxTokens, temperature, body: b }))),
    );
    const reason = (c: Sampled) => (fault === 'aborted' ? 'abort' : c.finishReason);
    const logpsOf = (c: Sampled) =>
      fault === 'few-logps' ? c.logps.slice(1) : processed && b.top_k === 1 ? c.logps.map(() => 0) : c.logps;
    const [c] = all as [Sampled];
    if (kind === 'sglang')
      return {
        text: '',
        meta_info: {
          finish_reason: { type: reason(c) },
          completion_tokens: c.tokens.length,
          weight_version: this.version,
          ...(fault === 'no-ids' ? {} : { output_token_logprobs: logpsOf(c).map((lp, t) => [lp, c.tokens[t], null]) }),
        },
      };
    if (kind === 'llama.cpp')
      return {
        content: '',
        tokens: fault === 'no-ids' ? [] : c.tokens,
        stop_type: fault === 'aborted' ? 'none' : c.finishReason === 'stop' ? 'eos' : 'limit',
        truncated: false,
        completion_probabilities: logpsOf(c).map((lp, t) => ({
          id: c.tokens[t],
          ...(b.post_sampling_probs ? { prob: Math.exp(lp) } : { logprob: lp }),
        })),
      };
    const choices = all.map((one, index) => ({
      index,
      text: '',
      finish_reason: reason(one),
      logprobs:
        fault === 'no-logps'
          ? null
          : { tokens: one.tokens.map((id) => (fault === 'no-ids' ? 'a' : `token_id:${id}`)), token_logprobs: logpsOf(one) },
      ...(fault === 'no-ids' || older ? {} : { token_ids: one.tokens }),
      ...(older ? {} : { weight_versions: [{ version: this.version, start: 0, end: one.tokens.length }] }),
    }));
    return { choices: choices.reverse() };
  }
}

const COMPLETIONS = new Map([
  ['/v1/completions', 'vllm'],
  ['/generate', 'sglang'],
  ['/completion', 'llama.cpp'],
]);
