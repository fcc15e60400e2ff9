// What a rollout function has to say of its servers.

/** One server's part in a rollout; sums over it. */
export interface ServerNumbers {
  /** That it sampled. */
  completions: number;
  /** Of those completions. */
  tokens: number;
  /** Seconds with a request under way. */
  busySeconds: number;
  /** Requests that failed: refused, dropped, timed out, garbled. */
  failures: number;
  /** Times that it was taken out. */
  outs: number;
}

/** Of a rollout function, about its calls. */
export interface RolloutReport {
  /** By name: host and port. */
  servers: Record<string, ServerNumbers>;
  /** For completions, further attempts included. */
  requests: number;
  /** Seconds that requests waited for a free server, summed. */
  queueSeconds: number;
  /** Further attempts of requests. */
  retries: number;
  /** Completions that other weights than those handed over had sampled; they were drawn again. */
  stale: number;
}

export const emptyReport = (): RolloutReport => ({ servers: {}, requests: 0, queueSeconds: 0, retries: 0, stale: 0 });

const NUMBERS = ['completions', 'tokens', 'busySeconds', 'failures', 'outs'] as const;

export const emptyNumbers = (): ServerNumbers => ({ completions: 0, tokens: 0, busySeconds: 0, failures: 0, outs: 0 });

/** Sums. `beside`: reports of processes that asked the same servers at once, whose busy seconds are the same ones. */
export function addReports(reports: readonly RolloutReport[], beside = false): RolloutReport {
  const sum = emptyReport();
  for (const report of reports) {
    for (const [name, numbers] of Object.entries(report.servers)) {
      const there = (sum.servers[name] ??= emptyNumbers());
      const busy = beside ? Math.max(there.busySeconds, numbers.busySeconds) : there.busySeconds + numbers.busySeconds;
      for (const key of NUMBERS) there[key] += numbers[key];
      there.busySeconds = busy;
    }
    sum.requests += report.requests;
    sum.queueSeconds += report.queueSeconds;
    sum.retries += report.retries;
    sum.stale += report.stale;
  }
  return sum;
}
