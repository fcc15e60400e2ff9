// Reward functions as a strict project writes them: no casts.
import {
  GRPOTrainer,
  PPOTrainer,
  SFTTrainer,
  accuracyReward,
  perCompletion,
  rewards,
  type AnyRewardFn,
  type ChatMessage,
  type GRPOTrainerOptions,
  type RewardFn,
  type RewardInput,
} from 'fused-grpo';

interface Sum {
  prompt: string;
  answer: string;
}
interface Chat {
  prompt: ChatMessage[];
  answer: string;
}
const model = 'model';
const sums: Sum[] = [{ prompt: '1+1=', answer: '2' }];
const chats: Chat[] = [{ prompt: [{ role: 'user', content: '1+1=' }], answer: '2' }];

// of a file: a text prompt, and columns that may be anything
new GRPOTrainer({
  model,
  rewardFuncs: ({ completions, answer }) => completions.map((text, i) => (text.includes(answer[i]) ? 1 : 0)),
  trainDataset: 'prompts.jsonl',
});
const untyped: RewardFn = ({ completions, answer }) => completions.map((text, i) => (text.trim() === answer[i] ? 1 : null));
new GRPOTrainer({ model, rewardFuncs: [untyped, accuracyReward], trainDataset: 'prompts.jsonl' });

// of a file, but said: by the function or by the trainer
const typed: RewardFn<Sum> = ({ completions, answer }) => completions.map((text, i) => text.trim() === answer[i]?.trim());
new GRPOTrainer({ model, rewardFuncs: typed, trainDataset: 'prompts.jsonl' });
new GRPOTrainer({ model, rewardFuncs: [accuracyReward, typed], trainDataset: 'prompts.jsonl' });
new GRPOTrainer<Chat>({
  model,
  rewardFuncs: ({ completions, answer }) => completions.map(([message], i) => Number(message?.content === answer[i]?.trim())),
  trainDataset: 'prompts.jsonl',
});
function plain({ completions, answer }: { completions: string[]; answer: string[] }): number[] {
  return completions.map((text, i) => Number(text === answer[i]));
}
new GRPOTrainer<Sum>({ model, rewardFuncs: plain, trainDataset: 'prompts.jsonl' });

// of rows: inferred
new GRPOTrainer({
  model,
  rewardFuncs: ({ completions, answer, weight }) =>
    completions.map((text, i) => (text.trim() === answer[i] ? (weight[i] ?? 1).valueOf() : 0)),
  trainDataset: [{ prompt: '1+1=', answer: '2', weight: 3 }],
});
new GRPOTrainer({ model, rewardFuncs: [plain, typed, untyped, accuracyReward], trainDataset: sums, evalDataset: sums });
new GRPOTrainer({
  model,
  rewardFuncs: [
    rewards.getThinkFormatReward(),
    ({ prompts, completions }) => completions.map(([m], i) => Number(m?.content === prompts[i]?.[0]?.content)),
  ],
  trainDataset: chats,
});
new PPOTrainer({ model, rewardFuncs: ({ answer }) => answer.map((text) => text.length), trainDataset: sums, config: { numIterations: 2 } });
new SFTTrainer({ model, trainDataset: sums });

// columns that the rows lack: renamed ones, and those of a rollout function
new GRPOTrainer({
  model,
  rewardFuncs: ({ completions, answer }) => completions.map((text, i) => Number(text.trim() === answer[i])),
  trainDataset: [{ question: '1+1=', solution: '2' }],
  columnMapping: { prompt: 'question', answer: 'solution' },
});
new GRPOTrainer<Sum, { calls: number }>({
  model,
  rewardFuncs: ({ answer, calls }) => answer.map((text, i) => text.length - (calls[i] ?? 0)),
  trainDataset: sums,
  rollout: ({ prompts }) => prompts.map(({ row }) => [{ tokens: [row.answer.length], finishReason: 'stop', columns: { calls: 1 } }]),
});

// one completion at a time
const judge = perCompletion<Sum>(async ({ completion, answer, signal }) => {
  signal.throwIfAborted();
  return completion.includes(answer) ? 1 : null;
});
perCompletion(({ completion, answer }) => Number(completion.trim() === answer));
new GRPOTrainer({ model, rewardFuncs: [judge, accuracyReward], trainDataset: sums });

// for any data set
const anywhere: AnyRewardFn = ({ completions, answer }) =>
  completions.map((c, i) => Number((typeof c === 'string' ? c : c[0]?.content) === answer[i]));
new GRPOTrainer({ model, rewardFuncs: anywhere, trainDataset: chats });
new GRPOTrainer({ model, rewardFuncs: anywhere, trainDataset: sums });

// what is put together elsewhere
export function make(more: Partial<GRPOTrainerOptions<Sum>>): GRPOTrainer {
  const options: GRPOTrainerOptions<Sum> = { model, rewardFuncs: typed, trainDataset: sums };
  return new GRPOTrainer({ ...options, ...more });
}
export async function byHand(input: RewardInput<Sum>): Promise<(number | null)[]> {
  return (await judge(input)).map((value) => (typeof value === 'number' ? value : null));
}

// @ts-expect-error a slip in a column's name
new GRPOTrainer({ model, rewardFuncs: ({ answr }) => [answr.length], trainDataset: sums });
// @ts-expect-error completions are messages
new GRPOTrainer({ model, rewardFuncs: ({ completions }) => completions.map((text) => text.trim().length), trainDataset: chats });
// @ts-expect-error the function needs a column that the rows lack
new GRPOTrainer({ model, rewardFuncs: typed, trainDataset: [{ prompt: '1+1=' }] });
// @ts-expect-error the function is for text
new GRPOTrainer({ model, rewardFuncs: typed, trainDataset: chats });
// @ts-expect-error no numbers
new GRPOTrainer({ model, rewardFuncs: ({ completions }) => completions, trainDataset: sums });
// @ts-expect-error a slip in an option's name
new GRPOTrainer({ model, rewardFunc: typed, trainDataset: sums });
