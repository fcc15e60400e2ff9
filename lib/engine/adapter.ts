// What of a model is trained: the modules that have a LoRA adapter (arXiv 2106.09685), or some of the parameters.
import { invalidType, invalidValue, nearest, rejectUnknown } from '../errors.js';

/** A new LoRA adapter (arXiv 2106.09685); names in parentheses are those of peft. */
export interface LoraOptions {
  /** Rank of A and B (peft: r). */
  rank: number;
  /** What A and B make is multiplied by alpha / rank, or alpha / sqrt(rank) with useRslora (peft: lora_alpha). Default twice the rank. */
  alpha?: number;
  /**
   * Names of modules, or the ends of their names ('q_proj'): peft's target_modules. 'all-linear', the default: every projection of the
   * layers. The head and the embeddings cannot have one.
   */
  targetModules?: readonly string[] | 'all-linear';
  /** Rank-stabilised LoRA (arXiv 2312.03732). Default false. */
  useRslora?: boolean;
  /** Decides A; B begins as zero. A non-negative safe integer, default 0. */
  seed?: number;
  /** Layers below this one get no adapter. Default 0. */
  fromLayer?: number;
}

/** The adapter of a policy. */
export interface Adapter {
  /** Rank of A and B. */
  readonly rank: number;
  /** See LoraOptions. */
  readonly alpha: number;
  /** See LoraOptions. */
  readonly useRslora: boolean;
  /** The modules that have one, by name. */
  readonly modules: readonly string[];
}

export const scaleOf = (a: Pick<Adapter, 'rank' | 'alpha' | 'useRslora'>): number => a.alpha / (a.useRslora ? Math.sqrt(a.rank) : a.rank);

/** The layer that a parameter or module belongs to. */
export function layerOf(name: string): number | undefined {
  const match = /(?:^|\.)(?:layers|h)\.(\d+)\./.exec(name);
  return match ? Number(match[1]) : undefined;
}

function listed(names: Iterable<string>): string {
  return [...new Set(names)].join(', ');
}

/** The modules that `targets` mean; peft's rule: a name, or the end of one behind a dot. Every target must mean something. */
export function selectModules(targets: readonly string[] | 'all-linear', all: readonly string[], fromLayer = 0): string[] {
  const modules = all.filter((m) => layerOf(m)! >= fromLayer);
  if (modules.length === 0) throw invalidValue('fromLayer', `a layer from 0 to ${layerOf(all.at(-1)!)}`, fromLayer);
  const wanted = typeof targets === 'string' ? [targets] : targets;
  if (!Array.isArray(wanted) || wanted.length === 0 || !wanted.every((t) => typeof t === 'string'))
    throw invalidType('targetModules', "'all-linear' or an array of module names", targets);
  const chosen = new Set<string>();
  for (const target of wanted) {
    const meant = target === 'all-linear' ? modules : modules.filter((m) => m === target || m.endsWith(`.${target}`));
    if (meant.length === 0) throw invalidValue('targetModules', `'all-linear' or some of ${listed(all.map(lastName))}`, target);
    meant.forEach((m) => chosen.add(m));
  }
  return all.filter((m) => chosen.has(m));
}

export const lastName = (module: string): string => module.slice(module.lastIndexOf('.') + 1);

/** Checks the options of Policy.addAdapter and finds the modules. */
export function resolveLora(options: LoraOptions, all: readonly string[]): Adapter & { seed: number } {
  if (typeof options !== 'object' || options === null) throw invalidType('addAdapter options', 'an object', options);
  rejectUnknown('Policy.addAdapter options', options, ['rank', 'alpha', 'targetModules', 'useRslora', 'seed', 'fromLayer']);
  const { rank, alpha = 2 * rank, targetModules = 'all-linear', useRslora = false, seed = 0, fromLayer = 0 } = options;
  if (!Number.isSafeInteger(rank) || rank < 1 || rank > 65536) throw invalidValue('rank', 'an integer from 1 to 65536', rank);
  if (typeof alpha !== 'number' || !(alpha > 0 && alpha < Infinity)) throw invalidValue('alpha', 'a number greater than 0', alpha);
  if (typeof useRslora !== 'boolean') throw invalidType('useRslora', 'true or false', useRslora);
  if (!Number.isSafeInteger(seed) || seed < 0) throw invalidValue('seed', 'a non-negative safe integer', seed);
  return { rank, alpha, useRslora, modules: selectModules(targetModules, all, fromLayer), seed };
}

/** A glob pattern (* and ?) as a regular expression over whole names. */
function globToRegExp(pattern: string): RegExp {
  const text = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.');
  return new RegExp(`^${text}$`);
}

/** The parameters that the patterns mean. Every pattern must mean one. */
export function selectParameters(patterns: readonly string[], all: readonly string[]): string[] {
  const chosen = new Set<string>();
  for (const pattern of patterns) {
    const test = globToRegExp(pattern);
    const meant = all.filter((name) => test.test(name));
    if (meant.length === 0) {
      const near = nearest(pattern, all);
      const tied = pattern.startsWith('lm_head') ? ' (a tied head is the embedding)' : '';
      throw invalidValue(
        'trainableParameters',
        `patterns that match parameters of the model${near ? `, like '${near}'` : ''}${tied}`,
        pattern,
      );
    }
    meant.forEach((name) => chosen.add(name));
  }
  return all.filter((name) => chosen.has(name));
}

/** The parameters that are left when the embeddings and the first `layers` layers are frozen. A tied head is an embedding. */
export function parametersAbove(layers: number, all: readonly string[]): string[] {
  const count = 1 + Math.max(...all.map((name) => layerOf(name) ?? -1));
  if (layers > count) throw invalidValue('freezeLayers', `at most the model's ${count} layers`, layers);
  const embedding = /(?:^|\.)(?:embed_tokens|wte|wpe)\.weight$/;
  return layers === 0 ? [...all] : all.filter((name) => (layerOf(name) ?? Infinity) >= layers && !embedding.test(name));
}
