// The processes of a run, for training loops of one's own on the library's ops.
import { settle } from '../engine/call.js';
import { Tensor, tensorOps } from '../engine/tensor.js';
import { FusedGrpoError, invalidType, invalidValue } from '../errors.js';
import { readOnce } from '../ops/inputs.js';
import { ownDevice } from './placement.js';
import { joinRanks, type Ranks } from './ranks.js';

/** Of ProcessGroup.join. */
export interface ProcessGroupOptions {
  /** Groups of different names do not meet; those of one name meet in the order in which they are joined. Default: 'default'. */
  name?: string;
  /** Seconds without a sign of life after which a process is missing. Default: 120. */
  ddpTimeout?: number;
  /** Ends the call that waits, with the signal's reason, and the group: the others' calls end with ERR_RANK_LOST. */
  signal?: AbortSignal;
}

/** Of ProcessGroup.allReduce. */
export interface AllReduceOptions {
  /** What becomes of the numbers: their sum (default), or their mean over the processes. */
  op?: 'sum' | 'mean';
}

const joins = new Map<string, number>();

function listOf(tensors: Tensor | readonly Tensor[]): Tensor[] {
  const list = Tensor.is(tensors) ? [tensors] : tensors;
  if (!Array.isArray(list)) throw invalidType('tensors', 'a Tensor or an array of Tensors', tensors);
  return list.map((t: unknown, i) => {
    if (!Tensor.is(t)) throw invalidType(`tensors[${i}]`, 'a Tensor', t);
    return t;
  });
}

/**
 * The processes that torchrun, `fused-grpo launch` or Slurm started, for training loops of one's own (the trainers need nothing of it): sums and
 * copies of engine tensors, by Gloo on the CPU and by NCCL on GPUs, on the stream that the ops run on.
 *
 *     const group = await ProcessGroup.join();
 *     const hidden = Tensor.from(rows, shape, { device: group.device }); // cuda:LOCAL_RANK, or cpu
 *     const { gradWeight } = await linearGrpoLoss({ hidden, weight, ... });
 *     await group.allReduce(gradWeight);                                  // the same bits on every process
 *     await group.leave();
 *
 * Every process makes the same calls in the same order; they run one after the other, behind the ops on tensors that were called before. A
 * process that is killed, stopped or cut off ends the others' calls with ERR_RANK_LOST, which names it, and the group with them. A process
 * that is alone (no RANK, or WORLD_SIZE 1) has a group of one, in which every call returns at once.
 */
export class ProcessGroup {
  readonly #ranks: Ranks;
  readonly #signal: AbortSignal | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #left = false;

  private constructor(ranks: Ranks, signal: AbortSignal | undefined) {
    this.#ranks = ranks;
    this.#signal = signal;
  }

  /**
   * Joins the other processes, as RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT say (or Slurm's variables); resolves when all have come.
   * @throws FusedGrpoError ERR_INVALID_ARG for variables that contradict each other; ERR_RANK_LOST when somebody does not come; ERR_RANKS_DIFFER
   */
  static async join(options: ProcessGroupOptions = {}): Promise<ProcessGroup> {
    const {
      name = 'default',
      ddpTimeout = 120,
      signal,
    } = readOnce('ProcessGroup.join', options, ['name', 'ddpTimeout', 'signal'], 'options');
    if (typeof name !== 'string') throw invalidType('name', 'a string', name);
    if (typeof ddpTimeout !== 'number' || !(ddpTimeout > 0) || ddpTimeout > 86_400)
      throw invalidValue('ddpTimeout', 'seconds, above 0 and at most 86400', ddpTimeout);
    const number = joins.get(name) ?? 0;
    joins.set(name, number + 1);
    const ranks = await joinRanks({ name: `group/${number}/${name}`, timeout: ddpTimeout, signal });
    ranks.setStep(-1); // nobody has said
    return new ProcessGroup(ranks, signal);
  }

  /** Of this process, from 0. */
  get rank(): number {
    return this.#ranks.rank;
  }
  /** Processes of the group. */
  get worldSize(): number {
    return this.#ranks.worldSize;
  }
  /** Where this process's tensors belong: 'cuda:0', ... by LOCAL_RANK, so that each process of a machine has a GPU of its own; 'cpu' without GPUs. */
  get device(): string {
    return ownDevice();
  }

  /**
   * Adds up (or averages) tensors of the same shapes and dtypes over all processes, in place: of float32, float64, bfloat16, float16 or int32, on
   * the CPU or on this process's GPU. Every process has the same bits afterwards, and two runs of as many processes have the same.
   * @throws FusedGrpoError ERR_RANKS_DIFFER where shapes, dtypes or calls differ (nothing is exchanged); ERR_RANK_LOST; ERR_CUDA with NCCL's words
   */
  async allReduce(tensors: Tensor | readonly Tensor[], options: AllReduceOptions = {}): Promise<void> {
    const { op = 'sum' } = readOnce('allReduce', options, ['op'], 'options');
    if (op !== 'sum' && op !== 'mean') throw invalidValue('op', "'sum' or 'mean'", op);
    const list = listOf(tensors);
    for (const { dtype } of list) {
      if (dtype === 'uint8') throw invalidValue('tensors', 'numbers that can be added up, not of dtype', dtype);
      if (dtype === 'int32' && op === 'mean') throw invalidValue('tensors', 'a floating dtype for a mean, not', dtype);
    }
    const native = list.map((t) => t.native);
    await this.#inTurn((ranks) => ranks.native && settle(() => tensorOps().allReduce(ranks.native!, native, op === 'mean'), this.#signal));
  }

  /**
   * Gives every process the numbers of process `root` (default 0), in place: tensors of the same shapes and dtypes.
   * @throws as allReduce
   */
  async broadcast(tensors: Tensor | readonly Tensor[], root = 0): Promise<void> {
    if (!Number.isSafeInteger(root) || root < 0 || root >= this.worldSize)
      throw invalidValue('root', `a rank from 0 to ${this.worldSize - 1}`, root);
    const native = listOf(tensors).map((t) => t.native);
    await this.#inTurn((ranks) => ranks.native && settle(() => tensorOps().broadcast(ranks.native!, native, root), this.#signal));
  }

  /** Every process's value, in the order of their ranks: plain data and typed arrays, as structuredClone takes them. */
  gather<T>(value: T): Promise<T[]> {
    return this.#inTurn((ranks) => ranks.gather(value));
  }

  /** Resolves when every process has called it. */
  barrier(): Promise<void> {
    return this.#inTurn((ranks) => ranks.meet());
  }

  /** The step under way, for messages about processes that are lost. */
  setStep(step: number): void {
    if (!Number.isSafeInteger(step) || step < 0) throw invalidValue('step', 'an integer >= 0', step);
    this.#ranks.setStep(step);
  }

  /** Leaves the group; with `why`, the others' calls end with it. Idempotent; any later call throws ERR_DISPOSED. */
  async leave(why?: Error | string): Promise<void> {
    if (this.#left) return;
    this.#left = true;
    if (why !== undefined) await this.#ranks.fail(typeof why === 'string' ? why : why.message);
    await this.#last.catch(() => undefined);
    await this.#ranks.leave();
  }

  /** leave(), for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.leave();
  }

  /** Calls of a group must not overtake each other: they run on two threads. */
  #inTurn<T>(call: (ranks: Ranks) => Promise<T> | undefined): Promise<T> {
    if (this.#left) return Promise.reject(new FusedGrpoError('ERR_DISPOSED', 'This ProcessGroup was left'));
    const make = () => call(this.#ranks) as Promise<T>;
    const mine = this.#last.then(make, make); // an earlier call's failure is its own
    // A call that was broken off here has not been made everywhere: whoever waits for it is told, and the group is over.
    const settled = mine.catch(async (error: unknown) => {
      if (this.#signal?.aborted) await this.#ranks.fail('a call of its ProcessGroup was aborted');
      throw error;
    });
    this.#last = settled;
    settled.catch(() => undefined); // whoever called learns of it
    return settled;
  }
}
