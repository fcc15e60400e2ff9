// What of the model a run trains: everything, some of its parameters, or a LoRA adapter; and at what cost of memory.
import { parametersAbove, selectParameters } from '../engine/adapter.js';
import { settle } from '../engine/call.js';
import { Policy } from '../engine/policy.js';
import type { NativeTraining } from '../engine/training.js';
import { incompatible, invalidType } from '../errors.js';
import type { OptionTable } from '../options.js';

/** Of every trainer. */
export const partOptions = {
  trainableParameters: {
    type: 'strings',
    description: 'Trains only parameters whose names match one of these patterns (* and ?), like model.layers.29.*; the others are frozen',
  },
  freezeLayers: {
    type: 'integer',
    min: 1,
    description: 'Freezes the embeddings (a tied head is one) and this many first layers; with loraRank these layers get no adapter',
  },
  gradientCheckpointing: {
    type: 'boolean',
    default: false,
    description:
      'Keeps only the input of each layer for the backward pass and computes the rest again: the same bits, less memory, more time (TRL turns it on by default)',
  },
} as const satisfies OptionTable;

/** Of trainers of a policy. */
export const loraOptions = {
  loraRank: {
    type: 'integer',
    min: 1,
    description: 'Trains a LoRA adapter of this rank beside frozen weights (peft: r; TRL: lora_r); default: the weights themselves',
  },
  loraAlpha: {
    type: 'number',
    min: 0,
    exclusiveMin: true,
    description: 'The adapter is scaled by loraAlpha / loraRank (peft: lora_alpha); default twice loraRank',
  },
  loraTargetModules: {
    type: 'strings',
    description:
      "Modules with an adapter, by name or end of name, like q_proj,v_proj (peft: target_modules); default all-linear: every layer's projections",
  },
  useRslora: { type: 'boolean', description: 'Scale by loraAlpha / sqrt(loraRank) instead (peft: use_rslora)' },
} as const satisfies OptionTable;

export interface TrainedConfig {
  loraRank?: number;
  loraAlpha?: number;
  loraTargetModules?: string[];
  useRslora?: boolean;
  trainableParameters?: string[];
  freezeLayers?: number;
  gradientCheckpointing: boolean;
  seed: number;
}

const REFUSED: Record<string, string> = {
  loraDropout:
    'this package never applies dropout, so that the log-prob of a sampled token and the trained one are of the same model; leave it out (0)',
  loraModulesToSave: 'a LoRA run trains adapters only; train whole modules with trainableParameters and without loraRank',
};

/** Names the reason for what peft has and this package has not. 0 and null mean what is done anyway. */
export function refuseLora(given: object): void {
  for (const [name, why] of Object.entries(REFUSED)) {
    const value = (given as Record<string, unknown>)[name];
    if (value !== undefined && value !== null && value !== 0) throw incompatible(`${name} is not supported: ${why}`);
  }
}

/** Options that cannot go together, before a model is loaded. */
export function checkTrained(c: TrainedConfig): void {
  for (const name of ['loraTargetModules', 'trainableParameters'] as const)
    if (c[name]?.length === 0) throw invalidType(name, 'at least one name', c[name]);
  if (c.loraRank === undefined) {
    const given = (['loraAlpha', 'loraTargetModules', 'useRslora'] as const).find((name) => c[name] !== undefined);
    if (given) throw incompatible(`${given} needs loraRank`);
  } else if (c.trainableParameters) throw incompatible('loraRank freezes all parameters: no trainableParameters with it');
  if (c.trainableParameters && c.freezeLayers !== undefined)
    throw incompatible('trainableParameters and freezeLayers both say what is trained: give one of them');
}

const SETTINGS = ['loraRank', 'loraAlpha', 'loraTargetModules', 'useRslora', 'trainableParameters', 'freezeLayers'] as const;

/** Options that a resumed run must share with the one that wrote the checkpoint. */
export const trainedSettings = (c: TrainedConfig): Record<string, unknown> =>
  Object.fromEntries(SETTINGS.filter((name) => c[name] !== undefined).map((name) => [name, c[name]]));

/** A policy that comes with an adapter goes on with it; it must be the one that is asked for. */
function checkAdapter(policy: Policy, c: TrainedConfig): void {
  const { adapter, path } = policy;
  if (!adapter) return;
  if (c.trainableParameters) throw incompatible(`${path} has an adapter, which alone is trained: no trainableParameters with it`);
  if (c.loraRank === undefined) return;
  const asked = { rank: c.loraRank, alpha: c.loraAlpha ?? 2 * c.loraRank, useRslora: c.useRslora ?? false };
  for (const key of ['rank', 'alpha', 'useRslora'] as const)
    if (adapter[key] !== asked[key])
      throw incompatible(
        `${path} has an adapter of ${key} ${adapter[key]}, and ${asked[key]} is asked for; merge it first to train a new one`,
      );
}

async function addLora(policy: Policy, c: TrainedConfig): Promise<void> {
  checkAdapter(policy, c);
  if (policy.adapter || c.loraRank === undefined) return;
  const { loraRank: rank, loraAlpha: alpha, loraTargetModules, useRslora, seed, freezeLayers: fromLayer } = c;
  await policy.addAdapter({ rank, alpha, targetModules: loraTargetModules ?? 'all-linear', useRslora, seed, fromLayer });
}

/** Freezes what is not trained, and adds the adapter that the options ask for. An optimizer of an earlier trainer is forgotten. */
export async function chooseTrained(model: { readonly native: NativeTraining }, c: TrainedConfig): Promise<void> {
  if (model instanceof Policy) await addLora(model, c);
  const all = async () => (await settle(() => model.native.describe())).parameters;
  const names = c.trainableParameters
    ? selectParameters(c.trainableParameters, await all())
    : c.freezeLayers !== undefined && c.loraRank === undefined
      ? parametersAbove(c.freezeLayers, await all())
      : [];
  await settle(() => model.native.chooseTrained({ names, recompute: c.gradientCheckpointing }));
}
