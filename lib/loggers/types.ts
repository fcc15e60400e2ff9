/** What a logger is told when a run begins, or goes on after a pause. */
export interface RunStart {
  /** 'grpo', 'ppo', 'sft' or 'reward'. */
  kind: string;
  /** As in the run's config.json: model, data and all options. */
  config: Readonly<Record<string, unknown>>;
  /** Steps made before: 0, or those of the run that is continued. */
  step: number;
  /** Steps of the whole run. */
  totalSteps: number;
  /** The run's folder, when it has one. */
  outputDir?: string;
}

/** What a logger is told when a run ends. */
export interface RunEnd {
  /** 'finished': all steps were made; 'stopped': an error, an abort, or the loop was left. */
  status: 'finished' | 'stopped';
  /** Steps made. */
  step: number;
}

/**
 * Where metrics go besides metrics.jsonl: a service, a database, a file. Calls come one after the other and may be async; the run waits, ten
 * seconds at most. A logger that throws or hangs is warned about once and never ends the run. A loop that is left and entered again starts and
 * ends its loggers again.
 */
export interface Logger {
  /** For warnings; default: the class's name. */
  name?: string;
  /** Called first. */
  onRunStart?(run: RunStart): void | Promise<void>;
  /** `metrics`: as in metrics.jsonl (docs/metrics.md); values may be nested. */
  onStep(metrics: Readonly<Record<string, unknown>>, step: number): void | Promise<void>;
  /** Called when the run ends, however it ends. */
  onRunEnd?(end: RunEnd): void | Promise<void>;
  /** Called last, also after a failure. */
  close?(): void | Promise<void>;
}
