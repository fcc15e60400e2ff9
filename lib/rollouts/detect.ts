// Which of the servers an address is.
import type { CallLimits, HttpClient } from './http.js';
import { RequestFailed } from './http.js';
import { llamaCpp } from './llama-cpp.js';
import { isObject, unable, type Protocol, type ServerKind } from './protocol.js';
import { sglang } from './sglang.js';
import { vllm } from './vllm.js';

export const PROTOCOLS: Record<ServerKind, Protocol> = { vllm, sglang, 'llama.cpp': llamaCpp };

/** What each answers and the others do not; the first that fits. */
const SIGNS: [ServerKind, string, (answer: Record<string, unknown>) => boolean][] = [
  ['sglang', '/model_info', (a) => 'model_path' in a && 'is_generation' in a],
  ['sglang', '/get_model_info', (a) => 'model_path' in a && 'is_generation' in a],
  ['llama.cpp', '/props', (a) => 'default_generation_settings' in a],
  ['vllm', '/version', (a) => typeof a.version === 'string'],
];

async function answerOf(client: HttpClient, path: string, limits: CallLimits): Promise<unknown> {
  return client.get(path, limits).catch((error: unknown) => {
    const { status } = error instanceof RequestFailed ? error.details : {};
    if (status === undefined || status >= 500 || status === 429) throw error; // not there, or not yet: no answer to the question
    return undefined;
  });
}

/** Throws RequestFailed where the server cannot be asked now, FusedGrpoError where it is none that gives token ids. */
export async function detect(client: HttpClient, limits: CallLimits): Promise<Protocol> {
  for (const [kind, path, fits] of SIGNS) {
    const answer = await answerOf(client, path, limits);
    if (isObject(answer) && fits(answer)) return PROTOCOLS[kind];
  }
  throw unable(
    `${client.base} is none of vLLM, SGLang and llama.cpp's llama-server, as far as it says: other OpenAI-compatible servers return text without token ids, and text that is tokenised again may give others. If it is one of them, name it: server: 'vllm' | 'sglang' | 'llama.cpp'`,
  );
}
