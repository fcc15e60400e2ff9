// Several servers as one: load, failures, who is out and comes back, and which weights all are to have.
import { setMaxListeners } from 'node:events';
import { FusedGrpoError } from '../errors.js';
import { pause } from '../trainer/calls.js';
import { RequestFailed } from './http.js';
import type { ResolvedOptions } from './options.js';
import { cutAtStop, unable, type Answered, type Job, type Weights } from './protocol.js';
import { Server } from './server.js';
import { emptyReport, type RolloutReport } from './stats.js';

const LONGEST_DELAY = 30; // seconds, between attempts

/** Sampled by other weights than those that were handed over last. */
class Stale extends RequestFailed {
  constructor(url: string, given: string[], wanted: string) {
    const names = given.map((v) => JSON.stringify(v)).join(', ');
    super(`${url} answered with the weights ${names}; ${JSON.stringify(wanted)} were handed over`, { retryable: true });
  }
}

export class Pool {
  readonly servers: Server[];
  private wanted?: Weights;
  private waiting: (() => void)[] = [];
  private report: RolloutReport = emptyReport();
  /** A server that can never do; told to whoever waits. */
  private mistake?: Error;
  private calls = 0;
  private over = new AbortController();
  private readonly watched = new Set<Server>();

  constructor(private readonly options: ResolvedOptions) {
    this.servers = options.urls.map((url) => new Server(url, options));
  }

  /** What has been counted since the last time. */
  takeReport(): RolloutReport {
    const report = { ...this.report, servers: Object.fromEntries(this.servers.map((s) => [s.name, s.takeNumbers()])) };
    this.report = emptyReport();
    return report;
  }

  /** What another process handed over; the servers that this one knows have it. */
  learn(weights: Weights): void {
    if (this.wanted?.policyVersion === weights.policyVersion) return;
    this.wanted = weights;
    for (const server of this.servers) if (server.state !== 'out') server.version = weights.policyVersion;
  }

  /** All servers load the weights; those that cannot now are out until they can. Throws when none can. */
  load(weights: Weights, signal: AbortSignal): Promise<void> {
    this.wanted = weights;
    return this.during(signal, async (own) => {
      const attempts = this.servers.map((server) => this.loadOne(server, weights, own));
      const results = await Promise.allSettled(attempts);
      own.throwIfAborted();
      const reasons = results.flatMap((r) => (r.status === 'rejected' ? [r.reason as Error] : []));
      const mistake = reasons.find((e) => e instanceof FusedGrpoError);
      if (mistake) throw mistake;
      if (reasons.length === this.servers.length)
        throw unable(`No server has loaded the weights: ${reasons.map((e) => e.message).join('; ')}`);
    });
  }

  private async loadOne(server: Server, weights: Weights, signal: AbortSignal): Promise<void> {
    for (let made = 1; ; ++made) {
      try {
        await server.load(weights, signal);
        if (server.state === 'new') server.state = 'in';
        else if (server.state === 'out') server.state = 'probation';
        return;
      } catch (error) {
        if (!(error instanceof RequestFailed)) throw error;
        const { retryable, unreachable } = error.details;
        if (!retryable || unreachable || made > this.options.retries) {
          server.version = undefined;
          server.takeOut(error);
          throw error;
        }
        await this.backOff(made, signal);
      }
    }
  }

  /**
   * The answers to jobs, in their order. `jobsOf` makes them when it is known how many completions one request may ask for. The first job
   * that fails for good ends the others.
   */
  ask(jobsOf: (most: number) => Job[], signal: AbortSignal): Promise<{ jobs: Job[]; answers: Answered[][] }> {
    return this.during(signal, async (own) => {
      for (const server of this.servers) if (server.state === 'new' || server.state === 'out') this.watch(server, own);
      await this.until(() => this.servers.every((s) => s.state !== 'new'), own);
      const jobs = jobsOf(Math.min(...this.servers.map((s) => s.protocol?.most ?? Infinity)));
      const group = new AbortController();
      const both = AbortSignal.any([own, group.signal]);
      setMaxListeners(0, both);
      try {
        return { jobs, answers: await Promise.all(jobs.map((job) => this.askOne(job, both, own))) };
      } catch (error) {
        group.abort(error);
        throw error;
      }
    });
  }

  /** `own` ends when the caller's signal does, or the last call under way: nothing is asked of a server between calls. */
  private async during<T>(signal: AbortSignal, work: (own: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    if (this.calls++ === 0) {
      this.over = new AbortController();
      this.mistake = undefined; // what was one may have been mended
    }
    const { over } = this;
    try {
      const own = AbortSignal.any([signal, over.signal]);
      setMaxListeners(0, own); // every request that waits or is under way listens
      return await work(own);
    } finally {
      if (--this.calls === 0) over.abort(new Error('the call is over'));
    }
  }

  /** Brings a server in, as often as it takes while a call is under way. */
  private watch(server: Server, own: AbortSignal): void {
    if (this.watched.has(server)) return;
    this.watched.add(server);
    const keep = async () => {
      for (;;) {
        try {
          await server.admit(this.wanted, own);
          return;
        } catch (error) {
          if (own.aborted) return;
          if (!(error instanceof RequestFailed)) throw error;
          server.takeOut(error);
          this.wake();
        }
        await pause(this.options.healthInterval * 1000, own);
      }
    };
    void keep()
      .catch((error: unknown) => {
        if (!own.aborted) this.mistake = error as Error;
      })
      .finally(() => {
        this.watched.delete(server);
        this.wake();
      });
  }

  private wake(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const go of waiting) go();
  }

  /** Until it is so, or there is a mistake that no waiting mends, or there has been no server for too long. */
  private async until(so: () => boolean, signal: AbortSignal): Promise<void> {
    const { patience } = this.options;
    let since = performance.now();
    while (!so()) {
      if (this.mistake) throw this.mistake;
      if (this.servers.some((s) => s.state !== 'out')) since = performance.now();
      const left = since + patience * 1000 - performance.now();
      if (left <= 0) throw unable(`${this.whoIsOut()} (patience: ${patience} s)`);
      await this.woken(Math.min(left, 1000), signal);
    }
  }

  private woken(most: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', stop);
        resolve();
      };
      const stop = () => {
        clearTimeout(timer);
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what the caller gave to abort()
        reject(signal.reason);
      };
      const timer = setTimeout(go, most);
      this.waiting.push(go);
      if (signal.aborted) stop();
      else signal.addEventListener('abort', stop, { once: true });
    });
  }

  private whoIsOut(): string {
    const all = this.servers.map((s) => s.lastError?.message ?? s.url);
    return this.servers.length === 1
      ? `The server cannot be used: ${all[0]}`
      : `None of the ${all.length} servers can be used: ${all.join('; ')}`;
  }

  /** The one with the fewest requests under way; rather not the one that has just failed. */
  private free(not?: Server): Server | undefined {
    const able = this.servers.filter((s) => s.room > 0);
    const others = able.filter((s) => s !== not);
    const [first, ...rest] = others.length ? others : able;
    return first && rest.reduce((best, s) => (s.outstanding < best.outstanding ? s : best), first);
  }

  private async acquire(not: Server | undefined, signal: AbortSignal): Promise<Server> {
    const begin = performance.now();
    for (;;) {
      await this.until(() => this.free(not) !== undefined, signal);
      const server = this.free(not);
      if (!server) continue; // another request was quicker
      this.report.queueSeconds += (performance.now() - begin) / 1000;
      server.begin();
      return server;
    }
  }

  private async askOne(job: Job, signal: AbortSignal, own: AbortSignal): Promise<Answered[]> {
    let last: Server | undefined;
    for (let made = 1; ; ++made) {
      const server = await this.acquire(last, signal);
      try {
        return await this.askServer(server, job, signal);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof RequestFailed)) throw error;
        if (!error.details.retryable) throw unable(error.message);
        this.failed(server, error, own);
        if (made > this.options.retries) throw unable(`${error.message} (attempt ${made} of a request, the last one)`);
        last = server;
      } finally {
        server.end();
        this.wake();
      }
      ++this.report.retries;
      await this.backOff(made, signal);
    }
  }

  private async askServer(server: Server, job: Job, signal: AbortSignal): Promise<Answered[]> {
    const { wanted } = this;
    ++this.report.requests;
    const answers = await server.ask(job, wanted?.label, signal);
    for (const { versions } of answers) {
      if (!versions) continue;
      server.namesVersions = true;
      if (wanted && versions.some((v) => v !== wanted.label)) {
        this.report.stale += answers.length;
        throw new Stale(server.url, versions, wanted.label);
      }
    }
    server.succeeded();
    server.numbers.completions += answers.length;
    for (const { tokens } of answers) server.numbers.tokens += tokens.length;
    return answers.map((a) => cutAtStop(a, job.sampling, job.ignoreEos));
  }

  private failed(server: Server, error: RequestFailed, own: AbortSignal): void {
    const out = server.failed(error);
    if (error instanceof Stale) {
      server.version = undefined; // it has to load them before it is in again
      server.takeOut(error);
    }
    if (out || error instanceof Stale) this.watch(server, own);
  }

  private backOff(made: number, signal: AbortSignal): Promise<void> {
    const { retryDelay } = this.options;
    const delay = Math.min(retryDelay * 2 ** (made - 1), LONGEST_DELAY);
    return pause(delay * 1000 * (0.5 + Math.random()), signal); // all that failed at once do not come back at once
  }
}
