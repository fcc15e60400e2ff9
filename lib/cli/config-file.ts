// The file of --config: JSON or YAML, names as in the trainer's config, or TRL's own.
import { readFileSync } from 'node:fs';
import { extname } from 'node:path';
import { LineCounter, parseDocument } from 'yaml';
import { FusedGrpoError } from '../errors.js';

const dataError = (message: string, cause?: unknown): FusedGrpoError => new FusedGrpoError('ERR_DATA', `--config: ${message}`, { cause });

/** V8 names a position in the text; people think in lines. */
function lineOf(error: Error, text: string): string {
  const position = /position (\d+)/.exec(error.message)?.[1];
  return position === undefined || /line \d+/.test(error.message) ? '' : ` (line ${text.slice(0, Number(position)).split('\n').length})`;
}

function parseJson(text: string, shown: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw dataError(`${shown} is not JSON: ${(cause as Error).message}${lineOf(cause as Error, text)}`, cause);
  }
}

function parseYaml(text: string, shown: string): unknown {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const problem = document.errors[0];
  if (problem) throw dataError(`${shown} is not YAML: ${problem.message} (line ${lineCounter.linePos(problem.pos[0]).line})`, problem);
  return document.toJS({ maxAliasCount: 100 }) as unknown;
}

/**
 * A config file as an object; .yaml and .yml are YAML, anything else JSON.
 * @param shown the path as the user wrote it
 * @throws FusedGrpoError ERR_DATA naming file and line
 */
export function readConfigFile(path: string, shown: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').replace(/^\uFEFF/, '');
  } catch (cause) {
    throw dataError(`${shown} cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'unknown reason'})`, cause);
  }
  const yaml = ['.yaml', '.yml'].includes(extname(path).toLowerCase());
  const value = yaml ? parseYaml(text, shown) : parseJson(text, shown);
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw dataError(`${shown} must hold ${yaml ? 'names and values (name: value)' : 'one JSON object'}`);
  return value as Record<string, unknown>;
}
