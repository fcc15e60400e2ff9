// A peer project's process (benchmarks/peers/worker.py): one JSON request a line to it, one answer a line from it, one at a time.
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { createInterface } from 'node:readline';

/** A peer that cannot run or go on; the message is the reason, in one line. The suite goes on without it. */
export class PeerFailure extends Error {
  override readonly name = 'PeerFailure';
}

export interface WorkerCommand {
  file: string;
  args: string[];
  env: NodeJS.ProcessEnv;
}

export interface WorkerOptions {
  signal?: AbortSignal;
  /** Milliseconds that one request may take. */
  timeout?: number;
}

export type Answer = Record<string, unknown>;

const TIMEOUT = 15 * 60_000;
const KEPT_ERRORS = 4000; // characters of standard error: its last line is the reason when a process dies

interface Waiting {
  id: number;
  resolve: (answer: Answer) => void;
  reject: (error: Error) => void;
}

export class PeerWorker {
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly ended: Promise<void>;
  private waiting?: Waiting;
  private failure?: Error;
  private errors = '';
  private sent = 0;
  private readonly abort = (): void => this.fail(this.options.signal!.reason as Error);

  constructor(
    command: WorkerCommand,
    private readonly options: WorkerOptions = {},
  ) {
    this.child = spawn(command.file, command.args, { env: command.env, stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stdin.on('error', () => undefined); // a dead process is reported once, by its end
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => (this.errors = (this.errors + text).slice(-KEPT_ERRORS)));
    createInterface({ input: this.child.stdout }).on('line', (line) => this.take(line));
    this.ended = new Promise((resolve) => {
      this.child.on('error', (error) => (this.fail(new PeerFailure(`it cannot be started: ${error.message}`)), resolve()));
      // 'close', not 'exit': the last answer and the last words have been read by then.
      this.child.on('close', (code, signal) => (this.fail(new PeerFailure(this.lastWords(code, signal))), resolve()));
    });
    if (options.signal?.aborted) this.abort();
    else options.signal?.addEventListener('abort', this.abort, { once: true });
  }

  /** Sends a request and waits for its answer. Rejects with a PeerFailure when the process cannot give one. */
  request(fields: object): Promise<Answer> {
    if (this.failure) return Promise.reject(this.failure);
    const id = ++this.sent;
    const timeout = this.options.timeout ?? TIMEOUT;
    const timer = setTimeout(() => this.fail(new PeerFailure(`it did not answer within ${timeout / 1000} s`)), timeout);
    return new Promise<Answer>((resolve, reject) => {
      this.waiting = { id, resolve, reject };
      this.child.stdin.write(JSON.stringify({ id, ...fields }) + '\n');
    }).finally(() => clearTimeout(timer));
  }

  /** Ends the process: it is asked to by the end of its input, and killed when it does not hear. */
  async close(): Promise<void> {
    this.options.signal?.removeEventListener('abort', this.abort);
    this.child.stdin.end();
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 2000);
    await this.ended;
    clearTimeout(timer);
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.child.kill('SIGKILL');
    this.waiting?.reject(this.failure);
    this.waiting = undefined;
  }

  private take(line: string): void {
    if (!this.waiting) return this.fail(new PeerFailure(`it answered without being asked: ${line.slice(0, 80)}`));
    let answer: Answer | null = null;
    try {
      answer = JSON.parse(line) as Answer | null;
    } catch {
      // said below
    }
    if (answer?.id !== this.waiting.id) return this.fail(new PeerFailure(`its answer makes no sense: ${line.slice(0, 80)}`));
    if (typeof answer.error === 'string') return this.fail(new PeerFailure(answer.error));
    this.waiting.resolve(answer);
    this.waiting = undefined;
  }

  private lastWords(code: number | null, signal: string | null): string {
    const last = this.errors.trim().split('\n').at(-1);
    return `its process ended (${signal ?? `exit code ${code}`})${last ? `: ${last}` : ''}`;
  }
}
