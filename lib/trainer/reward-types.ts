// What reward functions are given and give, by the type of the data set's rows.
import type { ChatMessage } from '../engine/chat.js';
import type { RewardModel } from '../reward/reward-model.js';
import type { StepRewards } from './process-rewards.js';

/* eslint-disable @typescript-eslint/no-explicit-any -- a column of a data set whose rows have no type is anything, as JSON.parse's result is */

/** A row whose prompt is text, with any columns: what is taken for granted where nothing says what rows are (of a file, for one). */
export interface TextRow {
  /** What the model is given. */
  prompt: string;
  [column: string]: any;
}

/** A row of any kind, with any columns: for a reward function that goes with every data set. */
export interface AnyRow {
  /** What the model is given: text, or a conversation. */
  prompt: string | ChatMessage[];
  [column: string]: any;
}

/** What every reward function can see of the run. */
export interface TrainerState {
  /** Steps made so far. */
  step: number;
  /** Steps of the whole run. */
  totalSteps: number;
  /** Passes over the data set so far, a fraction. */
  epoch: number;
}

/** Text or a conversation, as the rows' `prompt` is; without one (columnMapping makes it) text. */
export type PromptOf<Row> = [Row] extends [{ prompt: infer Prompt }]
  ? [Prompt] extends [string]
    ? string
    : [Prompt] extends [ChatMessage[]]
      ? ChatMessage[]
      : string | ChatMessage[]
  : string;

/** What a reward function receives beside the data set's columns. */
export interface RewardInputOf<Text = string> {
  /** (B) as in the data set. */
  prompts: Text[];
  /** (B) texts, or for conversations lists of one message. */
  completions: Text[];
  /** (B) token ids, the end token included. */
  completionTokens: Int32Array[];
  /** Where the run is. */
  trainerState: TrainerState;
  /** Aborted when the call has timed out, another function's failure has ended the step, or the run was aborted: pass it to fetch(). */
  signal?: AbortSignal;
}

/** The name of a column that is not the prompt; never of an index signature. */
type Column<Name> = string extends Name ? never : number extends Name ? never : Name extends 'prompt' ? never : Name;

/** The columns of a row, but the prompt. */
export type ColumnsOf<Row> = { [Name in keyof Row as Column<Name>]: Row[Name] } & MoreColumnsOf<Row>;

/** A list for each of them. */
export type ColumnListsOf<Row> = { [Name in keyof Row as Column<Name>]: Row[Name][] } & MoreColumnsOf<Row>;

/** Where not all columns are known, or rows have no `prompt` (columnMapping renames something to it), there may be any. */
export type MoreColumnsOf<Row> = string extends keyof Row ? OtherColumns : 'prompt' extends keyof Row ? unknown : OtherColumns;

/** Columns that nothing is known about. */
export interface OtherColumns {
  [column: string]: any;
}

/**
 * What a reward function receives: one entry per completion (B of them, the numGenerations completions of a prompt side by side), plus
 * every other column of the data set, repeated for each completion.
 * For conversational prompts a completion is `[{ role: 'assistant', content }]`, as in TRL; else it is a string.
 * `Row`: the type of a row of the data set; default: a text prompt and columns of any kind.
 */
export type RewardInput<Row extends object = TextRow> = RewardInputOf<PromptOf<Row>> & ColumnListsOf<Row>;

/** Of one completion. null: the function has nothing to say about it. */
export type RewardValue = number | boolean | null | undefined | StepRewards;

/** One number per completion, or for process supervision the rewards of its steps. `Row`: see RewardInput. */
export type RewardFn<Row extends object = TextRow> = (input: RewardInput<Row>) => ArrayLike<RewardValue> | Promise<ArrayLike<RewardValue>>;

/** What a reward function that goes with every data set receives. */
export interface AnyRewardInput extends RewardInputOf<string | ChatMessage[]>, OtherColumns {}

/** A reward function that goes with every data set: completions are text or messages. */
export type AnyRewardFn = (input: AnyRewardInput) => ArrayLike<RewardValue> | Promise<ArrayLike<RewardValue>>;

/** One, or several. */
export type RewardFuncs<Row extends object = TextRow> = RewardFn<Row> | RewardModel | readonly (RewardFn<Row> | RewardModel)[];
