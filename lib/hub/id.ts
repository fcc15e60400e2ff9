// What is a model of the hub: `org/name` or `name`, with @revision where not main is meant.
import { existsSync } from 'node:fs';

export interface ModelId {
  /** 'HuggingFaceTB/SmolLM2-135M' */
  name: string;
  /** Branch, tag or commit. */
  revision: string;
}

const WORD = '[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}';
const ID = new RegExp(`^(${WORD}(?:/${WORD})?)(?:@([A-Za-z0-9_][A-Za-z0-9_./-]*))?$`);

/** The id that a text may be, whether or not such a model exists; undefined for what only a path can be. */
export function parseModelId(text: string): ModelId | undefined {
  const [, name, revision = 'main'] = ID.exec(text) ?? [];
  if (name === undefined || /\.\.|--|\.git$|\.(safetensors|json|jsonl|bin|gguf)$/.test(name) || revision.includes('..')) return undefined;
  return { name, revision };
}

/** What is there on disk always wins: a text stands for a model of the hub only where no file or folder has that name. */
export const hubModel = (model: string): ModelId | undefined => (existsSync(model) ? undefined : parseModelId(model));
