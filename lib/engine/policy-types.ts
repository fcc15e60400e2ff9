// What a policy's methods return and take.

/** A sampled completion. */
export interface Completion {
  /** Which of the prompts it continues. */
  promptIndex: number;
  /** The completion as text: special tokens skipped, a stop string and what follows it cut off. Empty without a tokenizer. */
  text: string;
  /** Sampled ids, the end token (or the one that completed a stop string) included. */
  tokens: Int32Array;
  /** Log-prob of each token, nats, under the full distribution at `temperature`, before penalties and truncation. */
  logps: Float32Array;
  /** 'stop': an end token or a stop string; 'length': maxNewTokens were drawn. */
  finishReason: 'stop' | 'length';
}

/** Of Policy.generate. */
export interface GenerateResult {
  /** numGenerations completions of prompt 0, then of prompt 1, ... */
  completions: Completion[];
}

/** Of Policy.score; entropies with `entropy: true`. */
export type ScoreResult<Entropy extends boolean = boolean> = {
  /** Per completion: log-prob of each of its tokens, nats. */
  logps: Float32Array[];
} & (Entropy extends true
  ? {
      /** Per completion: entropy of the distribution that each token was drawn from, nats. */
      entropies: Float32Array[];
    }
  : {
      /** Not asked for. */
      entropies?: undefined;
    });

/** What `score` takes as a completion. A result of `generate` names its prompt itself. */
export type ScoredCompletion =
  | string
  | Int32Array
  | {
      /** Token ids. */
      tokens: Int32Array;
      /** Which of the prompts it continues. */
      promptIndex?: number;
    };
