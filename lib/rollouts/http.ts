// JSON over HTTP with limits. Not fetch(): that gives up on a server that has not begun to answer after five minutes, whatever its signal.
import http from 'node:http';
import https from 'node:https';

/** A request that got no usable answer. */
export class RequestFailed extends Error {
  constructor(
    message: string,
    readonly details: {
      /** Another attempt, or another server, may do better. */
      retryable: boolean;
      /** The server cannot be reached at all. */
      unreachable?: boolean;
      /** The connection broke: perhaps the server was started again. */
      broken?: boolean;
      timedOut?: boolean;
      status?: number;
    },
  ) {
    super(message);
  }
}

export interface ClientOptions {
  headers: Record<string, string>;
  /** Connections at once. */
  connections: number;
}

export interface CallLimits {
  /** Seconds until the whole answer must be there. */
  timeout: number;
  signal?: AbortSignal;
}

const SHOWN = 300; // characters of a refusal that belong into a message
const MOST_BYTES = 1 << 30;
const UNREACHABLE = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN', 'EPIPE']);

/** Worth another attempt: the server is busy, starting or broken. Other refusals are about the request itself. */
const passing = (status: number): boolean => status >= 500 || status === 408 || status === 425 || status === 429;

/** One server's address, its connections and what every request carries. */
export class HttpClient {
  /** Whether a connection is kept for the next request. */
  keepAlive = true;
  private readonly agent: http.Agent;
  private readonly send: typeof http.request;

  constructor(
    readonly base: string,
    private readonly options: ClientOptions,
  ) {
    const secure = base.startsWith('https:');
    this.agent = new (secure ? https : http).Agent({ keepAlive: true, maxSockets: options.connections });
    this.send = secure ? https.request : http.request;
  }

  get(path: string, limits: CallLimits): Promise<unknown> {
    return this.call('GET', path, undefined, {}, limits);
  }

  post(path: string, body: unknown, limits: CallLimits, headers: Record<string, string> = {}): Promise<unknown> {
    return this.call('POST', path, JSON.stringify(body), headers, limits);
  }

  /** Closes connections that nobody uses. */
  close(): void {
    this.agent.destroy();
  }

  private async call(
    method: string,
    path: string,
    body: string | undefined,
    headers: Record<string, string>,
    limits: CallLimits,
  ): Promise<unknown> {
    const { status, text } = await this.exchange(method, path, body, headers, limits);
    const where = `${this.base}${path}`;
    if (status >= 300)
      throw new RequestFailed(`${where} answered ${status}${text === '' ? '' : `: ${text.slice(0, SHOWN)}`}`, {
        retryable: passing(status),
        status,
      });
    if (text.trim() === '') return undefined;
    try {
      return JSON.parse(text) as unknown;
    } catch {
      // cut off on its way, or an error page of something in between
      throw new RequestFailed(`${where} answered something that is no JSON: ${text.slice(0, SHOWN)}`, { retryable: true });
    }
  }

  private exchange(
    method: string,
    path: string,
    body: string | undefined,
    headers: Record<string, string>,
    { timeout, signal }: CallLimits,
  ): Promise<{ status: number; text: string }> {
    signal?.throwIfAborted();
    const where = `${this.base}${path}`;
    return new Promise((resolve, reject) => {
      let timedOut = false;
      const json = body === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) };
      const close: Record<string, string> = this.keepAlive ? {} : { connection: 'close' };
      const request = this.send(where, { method, agent: this.agent, headers: { ...close, ...json, ...this.options.headers, ...headers } });
      const timer = setTimeout(() => {
        timedOut = true;
        request.destroy(new Error('timed out'));
      }, timeout * 1000);
      // Closing the connection is what tells the server to stop generating.
      const onAbort = () => request.destroy(new Error('aborted'));
      signal?.addEventListener('abort', onAbort, { once: true });
      const finish = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const fail = (error: Error) => {
        finish();
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what the caller gave to abort()
        if (signal?.aborted) return reject(signal.reason);
        if (timedOut) return reject(new RequestFailed(`${where} has not answered within ${timeout} s`, { retryable: true, timedOut }));
        const code = (error as NodeJS.ErrnoException).code ?? '';
        const unreachable = UNREACHABLE.has(code);
        reject(new RequestFailed(`${where}: ${error.message || code}`, { retryable: true, unreachable, broken: true }));
      };
      request.on('error', fail);
      request.on('response', (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          if ((bytes += chunk.length) > MOST_BYTES) request.destroy(new Error('the answer has more than a gigabyte'));
        });
        response.on('error', fail);
        response.on('end', () => {
          finish();
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') });
        });
        response.on('close', () => {
          if (!response.complete) fail(new Error('the connection was closed in the middle of the answer'));
        });
      });
      request.end(body);
    });
  }
}
