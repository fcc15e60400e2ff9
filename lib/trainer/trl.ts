// TRL's GRPOConfig, field by field: which option of ours it is, or why it is refused. docs/trl-config.md is made from this table.
import { unknownOption } from '../errors.js';

/** Fields whose option here has another name than TRL's in camelCase. */
export const TRL_RENAMED: Readonly<Record<string, string>> = {
  resume_from_checkpoint: 'resume',
  num_generations_eval: 'evalNumGenerations',
  vllm_importance_sampling_mode: 'samplerImportanceSampling',
  vllm_importance_sampling_clip_max: 'samplerImportanceSamplingClipMax',
  vllm_importance_sampling_clip_min: 'samplerImportanceSamplingClipMin',
};

/** What differs where the option exists: shown in the table. */
export const TRL_NOTES: Readonly<Record<string, string>> = {
  output_dir: 'Nothing is written without it; the command line has --output',
  lr_scheduler_type: 'linear, cosine, constant, constant_with_warmup',
  warmup_steps: 'A whole number; a share of all steps (below 1) is warmupRatio',
  save_steps: 'A whole number; 0: only at the end',
  save_total_limit: 'Default 2: all would fill the disk',
  resume_from_checkpoint: "A checkpoint's or a run's folder, or 'auto'",
  ddp_timeout: 'Seconds without a sign of life, default 120; ranks that are slow are waited for',
  eval_steps: 'A whole number; 0: at the end only',
  load_best_model_at_end: 'model/ is then that of the best evaluation',
  metric_for_best_model: 'evalReward and the like',
  ref_model_sync_steps: '0: never; TRL needs sync_ref_model besides, and mixes by ref_model_mixup_alpha, which is 1 here',
  report_to: "'none' or 'tensorboard'; metrics.jsonl is always written. Other services: the `loggers` option",
  vllm_importance_sampling_mode: "sequence_mask where a rollout function gives log-probs; else 'none': sampling and scoring are one engine",
  epsilon: 'Default 0.2 (gmpo: 0.4)',
  scale_rewards: "'group', 'batch' or 'none'; true and false are read as 'group' and 'none' in a --config file",
  top_entropy_quantile: 'The quantile is that of a micro-batch',
  gradient_checkpointing: 'Off unless given',
  use_bias_correction_kl: 'Default true, as there; false where klGradient is not that of the estimator',
};

const VLLM =
  'There is no vLLM inside: the engine samples itself; servers of yours sample by rollout: openAICompatible(...) or --rollout-urls (docs/rollouts.md)';
const EVAL = 'Give evalDataset and evalSteps (0: at the end only): that is all there is to choose';
const HUB = 'Nothing is uploaded: model/ in outputDir is a folder that `hf upload` takes as it is';
const PROCESSES = 'Ranks train data parallel as their launcher says (docs/scaling.md); shardOptimizer is the only choice there is';
const LOADER = 'There is no data loader: rows are in memory, or read as they are needed';
const LOG = 'Every step is logged: metrics.jsonl, and the `loggers` option';
const TRACKIO = 'There is no trackio; use reportTo or the `loggers` option';
const ENTROPY = 'entropyCoef stays what it is: an adaptive coefficient is not implemented';
const REFERENCE = 'refModelSyncSteps above 0 makes the policy the reference every so many steps: whole, not mixed';
const FP16 = "float16 training is not implemented: dtype 'bfloat16' or 'float32'";
const COMPILE = 'There is nothing to compile: the kernels are built ahead of time';
const CONTINUOUS = 'The engine schedules its own sampling; there is nothing to choose';

const REFUSED: readonly (readonly [reason: string, names: string])[] = [
  [
    VLLM,
    'use_vllm vllm_mode vllm_model_impl vllm_enable_sleep_mode vllm_structured_outputs_regex vllm_server_base_url vllm_server_host ' +
      'vllm_server_port vllm_server_timeout vllm_group_port vllm_gpu_memory_utilization vllm_max_model_length vllm_tensor_parallel_size',
  ],
  ["Say samplerImportanceSampling: 'none' to turn it off", 'vllm_importance_sampling_correction'],
  ['Deprecated in TRL too: samplerImportanceSamplingClipMax', 'vllm_importance_sampling_cap'],
  [
    EVAL,
    'eval_strategy eval_delay per_device_eval_batch_size prediction_loss_only eval_on_start eval_do_concat_batches ' +
      'eval_use_gather_object eval_accumulation_steps include_for_metrics batch_eval_metrics do_eval do_predict bf16_full_eval fp16_full_eval',
  ],
  [HUB, 'push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision log_completions_hub_repo'],
  [
    PROCESSES,
    'ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend fsdp fsdp_config ' +
      'deepspeed ds3_gather_for_generation local_rank parallelism_config accelerator_config average_tokens_across_devices ' +
      'save_on_each_node log_on_each_node log_level_replica',
  ],
  [
    LOADER,
    'dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor ' +
      'dataloader_multiprocessing_context dataloader_in_order',
  ],
  [LOG, 'logging_strategy logging_steps logging_first_step'],
  ['A number that is not finite is shown as such: nothing is filtered', 'logging_nan_inf_filter'],
  ['The `tokens` metric is always there', 'include_num_input_tokens_seen'],
  ['Errors and warnings are always shown', 'log_level'],
  ["The progress line is the command line's: `2>/dev/null` is quiet", 'disable_tqdm'],
  ['outputDir names the run', 'run_name project'],
  [TRACKIO, 'trackio_space_id trackio_bucket_id trackio_static_space_id'],
  ['samples.jsonl and report.html always hold completions', 'log_completions num_completions_to_print log_unique_prompts'],
  ['Models here read text only', 'log_multimodal'],
  ['The optimizer is AdamW, with float32 masters and moments', 'optim optim_args optim_target_modules'],
  ['The shapes of lrSchedulerType have no further parameters', 'lr_scheduler_kwargs'],
  ['It has no meaning for a policy gradient', 'label_smoothing_factor label_names neftune_noise_alpha'],
  ["Say dtype: 'bfloat16': weights and activations are held in it, with float32 masters; there is no autocast", 'bf16'],
  [FP16, 'fp16'],
  ['A setting of GPUs that the CPU engine has no use for', 'tf32 torch_empty_cache_steps'],
  [
    'Say gradientCheckpointing where this version has it; else lower microBatchTokens, which bounds activations',
    'gradient_checkpointing activation_checkpointing',
  ],
  ['Recomputing has no further parameters', 'gradient_checkpointing_kwargs activation_checkpointing_kwargs'],
  [COMPILE, 'torch_compile torch_compile_backend torch_compile_mode'],
  ['The loss is always fused, by kernels of our own (fused: false is the unfused twin)', 'use_liger_kernel liger_kernel_config'],
  ['Sampling always has its KV cache, training never', 'use_cache cache_implementation'],
  [CONTINUOUS, 'use_transformers_continuous_batching transformers_continuous_batching_config use_transformers_paged'],
  ['Memory is bounded by microBatchTokens, whatever the batch size', 'auto_find_batch_size'],
  ['`train --dry-run` says what memory a run needs', 'skip_memory_metrics'],
  ['A checkpoint is always resumable', 'save_only_model'],
  ['saveSteps says it all: every so many steps, 0 for only at the end', 'save_strategy'],
  ['Ctrl-C and SIGTERM save before they end the run', 'enable_jit_checkpoint'],
  ['Resuming always continues at the very next row', 'ignore_data_skip'],
  ['A logger keeps its own state', 'restore_callback_states_from_checkpoint'],
  ['Results are the same from run to run anyway', 'full_determinism'],
  ['seed decides the order of rows and the samples', 'data_seed'],
  ["Say device: 'cpu'", 'use_cpu'],
  ['Every column reaches the reward functions', 'remove_unused_columns'],
  ['Rows are drawn as shuffleDataset says', 'train_sampling_strategy length_column_name'],
  ['The command says it: `train`', 'do_train'],
  ['FUSED_GRPO_DEBUG=1 shows stacks', 'debug'],
  ['Say device and dtype; config.json decides everything else', 'model_init_kwargs'],
  ['No code of a model is run', 'trust_remote_code'],
  ['Mixtures of experts are not implemented', 'router_aux_loss_coef'],
  ['Dropout is never applied', 'disable_dropout'],
  ['Log-probs are always float32, whatever the dtype of the weights', 'cast_lm_head_to_fp32'],
  ['Nothing is padded', 'pad_to_multiple_of'],
  ['Say stepsPerGeneration: generation_batch_size / perDeviceTrainBatchSize', 'generation_batch_size'],
  ['temperature, topP, topK, minP and repetitionPenalty are the options of sampling', 'generation_kwargs'],
  ["A chat template gets the messages and nothing else: put what it needs into a prompt's messages", 'chat_template_kwargs'],
  [REFERENCE, 'sync_ref_model ref_model_mixup_alpha'],
  ['The metrics of metricForBestModel are all better when greater', 'greater_is_better'],
  [ENTROPY, 'use_adaptive_entropy entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target'],
  ['A completion is one turn: tools are not called', 'max_tool_calling_iterations'],
];

/** TRL's fields that have no option here, with the reason. */
export const TRL_REFUSED: Readonly<Record<string, string>> = Object.fromEntries(
  REFUSED.flatMap(([reason, names]) => names.split(' ').map((name) => [name, reason])),
);

const camel = (name: string): string => name.replace(/_+(\w)/g, (_, c: string) => c.toUpperCase());
const REFUSED_CAMEL = new Map(Object.entries(TRL_REFUSED).map(([name, reason]) => [camel(name), reason]));

/** The option that a TRL field is, given the names that we have. */
export function optionOfTrl(field: string, known: readonly string[]): string | undefined {
  const name = TRL_RENAMED[field] ?? camel(field);
  return known.includes(name) ? name : undefined;
}

/** Why a TRL name (snake_case or camelCase) is no option of ours; undefined for any other name. */
export const refusedReason = (name: string): string | undefined => REFUSED_CAMEL.get(camel(name));

/** Throws for the first option that is TRL's and not ours, with the reason. */
export function rejectTrlNames(where: string, options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    const reason = known.includes(name) ? undefined : refusedReason(name);
    if (reason !== undefined) throw unknownOption(`'${name}' is an option of TRL's, not of ${where}. ${reason}`);
  }
}

/** Values that mean: not used. Such a field of a TRL config can be left out. */
export const isOff = (value: unknown): boolean => value === false || value === null || value === '' || value === 'no' || value === 'none';

/** A field of a TRL config file as an option of ours. */
export function translateTrl(field: string, value: unknown, known: readonly string[]): { name: string; value: unknown } | undefined {
  const name = optionOfTrl(field, known);
  if (name === undefined) return undefined;
  if (name === 'scaleRewards' && typeof value === 'boolean') return { name, value: value ? 'group' : 'none' };
  if (name === 'warmupSteps' && typeof value === 'number' && value > 0 && value < 1) return { name: 'warmupRatio', value };
  if (name === 'resume' && typeof value === 'boolean') return { name, value: value ? 'auto' : null };
  if (name === 'reportTo' && Array.isArray(value) && value.length === 1) return { name, value: value[0] as unknown };
  return { name, value };
}
