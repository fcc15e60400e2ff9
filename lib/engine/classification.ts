// Models with one label in transformers' layout for sequence classification: what reward models and critics are saved as.
import { FusedGrpoError } from '../errors.js';
import type { ModelConfig } from './config.js';
import { withKey } from './folder.js';

/** model_type -> transformers' class with a `score` head. Every family of families.ts has one. */
const CLASSES: Record<string, string> = {
  llama: 'LlamaForSequenceClassification',
  mistral: 'MistralForSequenceClassification',
  qwen2: 'Qwen2ForSequenceClassification',
  qwen3: 'Qwen3ForSequenceClassification',
  smollm3: 'SmolLM3ForSequenceClassification',
  gemma3_text: 'Gemma3TextForSequenceClassification',
  gpt2: 'GPT2ForSequenceClassification',
};

/** Whether config.json describes a model with a classification head. */
export function isClassifier(config: ModelConfig): boolean {
  return config.architectures.some((name) => name.endsWith('ForSequenceClassification'));
}

/** For callers that need a language model. @throws FusedGrpoError ERR_MODEL */
export function refuseClassifier(config: ModelConfig, path: string): void {
  if (!isClassifier(config)) return;
  throw new FusedGrpoError(
    'ERR_MODEL',
    `${path} is a ${config.architectures[0]}: it scores text and has no language-model head. Load it with RewardModel.load`,
  );
}

/** For callers that need a head of one label. @throws FusedGrpoError ERR_MODEL */
export function checkLabels(config: ModelConfig, path: string): void {
  if (!isClassifier(config) || config.labels === undefined || config.labels === 1) return;
  throw new FusedGrpoError('ERR_MODEL', `${path} classifies into ${config.labels} labels; a reward model has one (num_labels 1)`);
}

/** config.json of the same backbone with a scalar head. transformers finds a batch's last tokens by pad_token_id. */
export function classificationConfig(text: string, config: ModelConfig, padTokenId: number | undefined): string {
  const name = CLASSES[config.modelType];
  if (name === undefined)
    throw new FusedGrpoError('ERR_MODEL', `transformers has no sequence classification class for model_type '${config.modelType}'`);
  const keys: [string, unknown][] = [
    ['architectures', [name]],
    ['id2label', { 0: 'LABEL_0' }],
    ['label2id', { LABEL_0: 0 }],
    ...(padTokenId === undefined ? [] : [['pad_token_id', padTokenId] as [string, unknown]]),
  ];
  return keys.reduce((edited, [key, value]) => withKey(edited, key, value), text);
}
