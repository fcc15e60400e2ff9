// What a row of each kind of data set must look like.
import { FusedGrpoError } from '../errors.js';
import type { RowCheck } from './dataset.js';

export function isChat(value: unknown): boolean {
  const isMessage = (m: unknown) =>
    m !== null &&
    typeof m === 'object' &&
    typeof (m as { role?: unknown }).role === 'string' &&
    typeof (m as { content?: unknown }).content === 'string';
  return Array.isArray(value) && value.length > 0 && value.every(isMessage);
}

/** GRPO: { prompt: string | [{ role, content }, ...], ...columns }. */
export const checkPromptRow: RowCheck = (row, where) => {
  if (row === null || typeof row !== 'object') throw new FusedGrpoError('ERR_DATA', `${where}: expected an object with a "prompt"`);
  const { prompt } = row;
  if (prompt === undefined)
    throw new FusedGrpoError('ERR_DATA', `${where}: there is no "prompt"; the row has ${Object.keys(row).join(', ') || 'no columns'}`);
  if (prompt === '') throw new FusedGrpoError('ERR_DATA', `${where}: "prompt" is empty`);
  if (typeof prompt !== 'string' && !isChat(prompt))
    throw new FusedGrpoError('ERR_DATA', `${where}: "prompt" must be a string or a list of { role, content } messages`);
};

const isText = (value: unknown): value is string => typeof value === 'string';

/** Reward model: { chosen, rejected, prompt?, margin? }: text, or conversations (a chat prompt also takes the answers as text). */
export const checkPreferenceRow: RowCheck = (row, where) => {
  const fail = (what: string): never => {
    throw new FusedGrpoError('ERR_DATA', `${where}: ${what}`);
  };
  if (row === null || typeof row !== 'object') fail('expected an object with "chosen" and "rejected"');
  const { prompt, margin } = row;
  for (const side of ['chosen', 'rejected']) {
    const value = row[side];
    if (value === undefined) fail(`there is no "${side}"; the row has ${Object.keys(row).join(', ') || 'no columns'}`);
    if (!isText(value) && !isChat(value)) fail(`"${side}" must be a string or a list of { role, content } messages`);
    if (value === '' && (prompt === undefined || prompt === '')) fail(`"${side}" is empty`);
  }
  if (isText(row.chosen) !== isText(row.rejected)) fail('"chosen" and "rejected" must both be text or both be messages');
  if (prompt !== undefined && !isText(prompt) && !isChat(prompt)) fail('"prompt" must be a string or a list of { role, content } messages');
  if (isText(prompt) && !isText(row.chosen)) fail('"prompt" is text, but "chosen" and "rejected" are messages');
  if (margin !== undefined && margin !== null && (typeof margin !== 'number' || !Number.isFinite(margin)))
    fail('"margin" must be a number');
};

/** SFT: { text } or { prompt, completion } or { messages }. */
export const checkSFTRow: RowCheck = (row, where) => {
  if (row === null || typeof row !== 'object') throw new FusedGrpoError('ERR_DATA', `${where}: expected an object`);
  const { text, prompt, completion, messages } = row;
  if (typeof text === 'string' && text !== '') return;
  if (isChat(messages)) return;
  if ((typeof prompt === 'string' || isChat(prompt)) && typeof completion === 'string' && completion !== '') return;
  throw new FusedGrpoError(
    'ERR_DATA',
    `${where}: expected { "prompt", "completion" }, { "text" } or { "messages" }; the row has ${Object.keys(row).join(', ') || 'no columns'}`,
  );
};
