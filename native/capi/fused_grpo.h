/* fused-grpo for C and every language that can call C: GRPO's loss, its parts and their gradients, on memory of the
 * caller. Plain C99. docs/embedding.md shows how to use it; docs/losses.md gives the formulas.
 *
 * Rules
 * - Every function may be called from any thread at any time. There is no global state, and no memory is kept.
 * - A struct begins with struct_size; fg_X_init(&x, sizeof x) sets it and the defaults. A library that is newer than
 *   the caller's header gives fields that the caller does not know their defaults; one that is older refuses a struct
 *   whose unknown fields are not all zero.
 * - Names, meanings and defaults are those of the JavaScript functions and of TRL's GRPOConfig, in snake_case.
 * - N rows (tokens), B sequences (completions), V columns (vocabulary). Strides are in elements.
 * - What a mask (0) or a truncated sequence leaves out is never read; its results are 0.
 * - Outputs may not overlap anything else, except that a gradient may lie exactly on the logits.
 * - Errors: when a status other than FG_OK is returned, no output has been written, with one exception (on a GPU there
 *   are more, see there): rows of logits that hold NaN, +infinity or no finite number are found while outputs are
 *   written. fg_error, which may be NULL, says what is wrong with which element.
 * - Scratch is the caller's: ask fg_X_scratch, give at least as many bytes aligned to FG_SCRATCH_ALIGNMENT. No op
 *   allocates memory of the size of its inputs, but for loss types clip_cov and kl_cov, and for top_entropy_quantile
 *   below 1 (16 bytes per selected token). Threads and error texts are the other allocations,
 *   and 4 bytes a column that a thread works in: it keeps them until it ends.
 * - An array of no elements may be NULL.
 */
#ifndef FUSED_GRPO_H
#define FUSED_GRPO_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define FG_API __attribute__((visibility("default")))
#else
#define FG_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised with every incompatible change: compare with fg_abi_version(). */
#define FG_ABI_VERSION 1
#define FG_SCRATCH_ALIGNMENT 16

/* An option that is not given: its default depends on others, or there is no such bound. */
#define FG_UNSET (-1.7976931348623157e308)

typedef int32_t fg_status;
enum {
  FG_OK = 0,
  FG_INVALID_ARG = 1,          /* a null, misaligned or overlapping pointer; a number or enum out of range */
  FG_INCOMPATIBLE_OPTIONS = 2, /* options that cannot go together */
  FG_NON_FINITE = 3,           /* NaN or infinity where a finite number is needed */
  FG_STRUCT_SIZE = 4,          /* struct_size is not one that this library knows */
  FG_SCRATCH_TOO_SMALL = 5,
  FG_NO_CUDA = 6,     /* built without CUDA */
  FG_CUDA_FAILED = 7, /* a call of the CUDA run-time, which the message names */
  FG_OUT_OF_MEMORY = 8,
  FG_INTERNAL = 9 /* a bug of this library */
};

typedef struct fg_error {
  size_t struct_size;
  fg_status status;
  int32_t reserved;
  int64_t index;     /* of the bad element in `argument`, or -1 */
  int64_t sequence;  /* that it belongs to, or -1 */
  int64_t token;     /* its place in that sequence, or -1 */
  char argument[64]; /* the field's name, or "" */
  char message[512]; /* a sentence; "" after FG_OK */
} fg_error;

enum { FG_FLOAT32 = 0, FG_BFLOAT16 = 1, FG_FLOAT16 = 2 };

/* How to run. NULL where one is asked for: on the calling thread alone. Results never depend on it. */
typedef struct fg_pool fg_pool;
typedef struct fg_exec {
  size_t struct_size;
  int32_t threads; /* that this call may use, itself included: started and ended by it. 0: one per core. Default 1 */
  int32_t reserved;
  fg_pool* pool; /* given: its threads do the work, and `threads` means nothing. Default NULL */
} fg_exec;

/* Which row belongs to which sequence. */
typedef struct fg_layout {
  size_t struct_size;
  int64_t rows;      /* N */
  int64_t sequences; /* B */
  const int32_t*
      offsets;         /* (B + 1): sequence s has rows offsets[s] to offsets[s + 1]. NULL: one sequence of all rows */
  const uint8_t* mask; /* (N), 0 leaves a row out. NULL: every row counts */
} fg_layout;

/* Rows of logits, or where their gradient goes. */
typedef struct fg_matrix {
  size_t struct_size;
  void* data;
  int32_t dtype; /* FG_FLOAT32, FG_BFLOAT16, FG_FLOAT16 */
  int32_t reserved;
  int64_t vocab;           /* V */
  int64_t row_stride;      /* from one row to the next. 0: V */
  int64_t sequence_stride; /* from one sequence's first row to the next's (padded views). 0: rows follow each other */
} fg_matrix;

enum { FG_SCALE_GROUP = 0, FG_SCALE_BATCH = 1, FG_SCALE_NONE = 2 };
enum { FG_BASELINE_GROUP_MEAN = 0, FG_BASELINE_LEAVE_ONE_OUT = 1, FG_BASELINE_BATCH_MEAN = 2, FG_BASELINE_NONE = 3 };
enum { FG_TRANSFORM_NONE = 0, FG_TRANSFORM_RANK = 1 };
enum { FG_SUM_THEN_NORMALIZE = 0, FG_NORMALIZE_THEN_SUM = 1 };

typedef struct fg_advantage_options {
  size_t struct_size;
  int32_t scale_rewards;      /* what the advantage is divided by. FG_SCALE_GROUP */
  int32_t baseline;           /* what is subtracted. FG_BASELINE_GROUP_MEAN */
  int32_t transform;          /* FG_TRANSFORM_NONE */
  int32_t ddof;               /* of the standard deviation. 1 */
  int32_t exclude_non_finite; /* 1: NaN or infinite rewards are left out, their advantage is 0. 0: an error */
  int32_t reserved;
  double eps; /* added to the standard deviation. 1e-4 */
} fg_advantage_options;

enum {
  FG_GRPO = 0,
  FG_BNPO = 1,
  FG_DR_GRPO = 2,
  FG_DAPO = 3,
  FG_CISPO = 4,
  FG_SAPO = 5,
  FG_VESPO = 6,
  FG_LUSPO = 7,
  FG_GMPO = 8,
  FG_REINFORCE = 9,
  FG_DPPO = 10,
  FG_CLIP_COV = 11,
  FG_KL_COV = 12
};
enum { FG_LEVEL_TOKEN = 0, FG_LEVEL_SEQUENCE = 1, FG_LEVEL_SEQUENCE_TOKEN = 2 };
enum { FG_K1 = 0, FG_K2 = 1, FG_K3 = 2 };
enum { FG_KL_GRADIENT_ESTIMATOR = 0, FG_KL_GRADIENT_STRAIGHT_THROUGH = 1, FG_KL_GRADIENT_SCORE_FUNCTION = 2 };
enum {
  FG_SAMPLER_NONE = 0,
  FG_SAMPLER_TOKEN_TRUNCATE = 1,
  FG_SAMPLER_TOKEN_MASK = 2,
  FG_SAMPLER_SEQUENCE_TRUNCATE = 3,
  FG_SAMPLER_SEQUENCE_MASK = 4
};
enum { FG_DIVERGENCE_TV = 0, FG_DIVERGENCE_KL = 1 };

/* docs/losses.md says what each means. At the end of a comment: the default. */
typedef struct fg_loss_options {
  size_t struct_size;
  int32_t loss_type;                    /* FG_DAPO */
  int32_t importance_sampling_level;    /* FG_LEVEL_TOKEN */
  int32_t kl_estimator;                 /* FG_K3 */
  int32_t kl_gradient;                  /* FG_KL_GRADIENT_ESTIMATOR */
  int32_t use_bias_correction_kl;       /* 0, 1; -1: 1 with FG_KL_GRADIENT_ESTIMATOR, else 0. -1 */
  int32_t mask_truncated_completions;   /* 0 */
  int32_t exclude_empty_sequences;      /* from the default normalizer. 0 */
  int32_t sampler_importance_sampling;  /* FG_SAMPLER_NONE */
  int32_t dppo_divergence;              /* FG_DIVERGENCE_TV */
  uint32_t clip_cov_seed;               /* 0 */
  int64_t max_completion_length;        /* of FG_DR_GRPO without a normalizer, which needs it. 0: not given */
  double temperature;                   /* logits are divided by it; policy_loss has no use for it. 1 */
  double epsilon;                       /* FG_UNSET: 0.2, FG_GMPO 0.4 */
  double epsilon_high;                  /* FG_UNSET: as epsilon; FG_CISPO needs it */
  double delta;                         /* FG_UNSET: no bound */
  double dual_clip;                     /* FG_UNSET: no bound */
  double beta;                          /* 0 */
  double normalizer;                    /* FG_UNSET: counted on this batch */
  double entropy_coef;                  /* 0 */
  double entropy_normalizer;            /* FG_UNSET: counted on this batch */
  double top_entropy_quantile;          /* 1 */
  double entropy_threshold;             /* FG_UNSET: none */
  double sampler_clip_min;              /* samplerImportanceSamplingClipMin. FG_UNSET: none */
  double sampler_clip_max;              /* 3 */
  double off_policy_mask_threshold;     /* FG_UNSET: off */
  double sapo_temperature_pos;          /* 1 */
  double sapo_temperature_neg;          /* 1.05 */
  double vespo_k_pos, vespo_lambda_pos; /* 2, 3 */
  double vespo_k_neg, vespo_lambda_neg; /* 3, 2 */
  double dppo_ratio_max;                /* 20 */
  double clip_cov_ratio;                /* 2e-4 */
  double clip_cov_low, clip_cov_high;   /* 1, 5 */
  double kl_cov_ratio;                  /* 2e-4 */
  double kl_cov_coef;                   /* 1 */
} fg_loss_options;

/* Everything token-sized that the loss is made of. */
typedef struct fg_policy_batch {
  size_t struct_size;
  const fg_layout* layout;
  const uint8_t* truncated;     /* (B), not 0: hit the length limit. Read with mask_truncated_completions only */
  const float* old_logps;       /* (N) of the sampling policy. NULL: on policy, the ratio is 1 and keeps its gradient */
  const float* ref_logps;       /* (N) of the reference. Read only where beta is not 0 */
  const float* sampler_logps;   /* (N) by the engine that sampled, NaN where unknown. May be NULL */
  const float* advantages;      /* (B), or (N) */
  int32_t advantages_per_token; /* 1: (N). 0 */
  int32_t reserved;
} fg_policy_batch;

/* Means over selected tokens, 0 when there are none. Written by the ops; set struct_size before. */
typedef struct fg_metrics {
  size_t struct_size;
  double loss;
  double kl;      /* what beta multiplies; 0 where beta is 0 */
  double entropy; /* nats a token; 0 where entropies were not computed or given */
  double clip_ratio_low, clip_ratio_high;
  double ratio_min, ratio_mean, ratio_max;
  int64_t tokens, sequences;
} fg_metrics;

/* Defaults, and struct_size. `size` is sizeof the struct: what lies behind is not written, whatever the library knows.
 * FG_STRUCT_SIZE and nothing written where no version had that size; FG_INVALID_ARG for NULL. All fields that these
 * comments do not name become 0 or NULL. */
FG_API fg_status fg_error_init(fg_error* x, size_t size);
FG_API fg_status fg_exec_init(fg_exec* x, size_t size);
FG_API fg_status fg_layout_init(fg_layout* x, size_t size);
FG_API fg_status fg_matrix_init(fg_matrix* x, size_t size);
FG_API fg_status fg_advantage_options_init(fg_advantage_options* x, size_t size);
FG_API fg_status fg_loss_options_init(fg_loss_options* x, size_t size);
FG_API fg_status fg_policy_batch_init(fg_policy_batch* x, size_t size);
FG_API fg_status fg_metrics_init(fg_metrics* x, size_t size);

FG_API uint32_t fg_abi_version(void);
FG_API const char* fg_version(void);                 /* "0.1.0" */
FG_API const char* fg_status_name(fg_status status); /* "FG_INVALID_ARG" */
FG_API const char* fg_simd(void);                    /* "avx512", "avx2", "neon", "portable": by this machine */
FG_API fg_status fg_pool_create(int32_t threads,     /* its user included; 0: one per core. It may get fewer */
                                fg_pool** pool, fg_error* error);
FG_API int32_t fg_pool_threads(const fg_pool* pool); /* 0 for NULL */
FG_API void fg_pool_destroy(fg_pool* pool);          /* no call may still use it. NULL: nothing */

/* offsets (count + 1) = 0, length, 2 length, ...: sequences, or groups, of equal size. */
FG_API fg_status fg_uniform_offsets(int64_t count, int64_t length, int32_t* offsets, fg_error* error);

/* --- Log-probs: of each row's target under softmax(logits / temperature) --- */
typedef struct fg_selective_logp_args {
  size_t struct_size;
  const fg_layout* layout; /* offsets matter with a sequence_stride only, and for error texts */
  const fg_matrix* logits;
  const int32_t* targets; /* (N) from 0 to V - 1 */
  double temperature;     /* 1 */
  float* logps;           /* (N) out */
  float* lse;             /* (N) out: log-sum-exp. May be NULL */
  float* entropies;       /* (N) out: nats. NULL: not computed */
  void* scratch;
  size_t scratch_bytes;
} fg_selective_logp_args;
FG_API fg_status fg_selective_logp_args_init(fg_selective_logp_args* x, size_t size);
FG_API fg_status fg_selective_logp_scratch(const fg_selective_logp_args* args, size_t* bytes, fg_error* error);
FG_API fg_status fg_selective_logp(const fg_selective_logp_args* args, const fg_exec* exec, fg_error* error);

/* d(sum(grad_logps * logps + grad_entropies * entropies)) / d(logits) */
typedef struct fg_selective_logp_backward_args {
  size_t struct_size;
  const fg_layout* layout;
  const fg_matrix* logits;
  const fg_matrix* grad;  /* out: V and dtype as the logits; may be their very memory */
  const int32_t* targets; /* (N) */
  double temperature;     /* 1 */
  const float* grad_logps;
  const float* grad_entropies; /* (N), may be NULL */
  void* scratch;
  size_t scratch_bytes;
} fg_selective_logp_backward_args;
FG_API fg_status fg_selective_logp_backward_args_init(fg_selective_logp_backward_args* x, size_t size);
FG_API fg_status fg_selective_logp_backward_scratch(const fg_selective_logp_backward_args* args, size_t* bytes,
                                                    fg_error* error);
FG_API fg_status fg_selective_logp_backward(const fg_selective_logp_backward_args* args, const fg_exec* exec,
                                            fg_error* error);

/* --- The policy-gradient loss. options NULL: the defaults. --- */
typedef struct fg_policy_loss_args {
  size_t struct_size;
  const fg_policy_batch* batch;
  const float* logps;     /* (N) of the current policy */
  const float* entropies; /* (N); NULL where no option reads them: then without the metric */
  float* grad_logps;      /* (N) out */
  float* grad_entropies;  /* (N) out, may be NULL */
  fg_metrics* metrics;    /* out: the loss, too */
  void* scratch;
  size_t scratch_bytes;
} fg_policy_loss_args;
FG_API fg_status fg_policy_loss_args_init(fg_policy_loss_args* x, size_t size);
FG_API fg_status fg_policy_loss_scratch(const fg_policy_loss_args* args, size_t* bytes, fg_error* error);
FG_API fg_status fg_policy_loss(const fg_policy_loss_args* args, const fg_loss_options* options, const fg_exec* exec,
                                fg_error* error);

/* Loss and gradient of the logits, in one read and one write of them. */
typedef struct fg_grpo_loss_args {
  size_t struct_size;
  const fg_policy_batch* batch;
  const fg_matrix* logits;
  const fg_matrix* grad;  /* out, 1 / temperature included; may be the logits' very memory. NULL: no gradient */
  const int32_t* targets; /* (N) */
  float* logps;           /* (N) out, may be NULL, as the next two */
  float* lse;
  float* entropies;
  int32_t entropy; /* 1: compute the entropy for the metric also without `entropies`. 1 */
  int32_t reserved;
  fg_metrics* metrics; /* out: the loss, too */
  void* scratch;
  size_t scratch_bytes;
} fg_grpo_loss_args;
FG_API fg_status fg_grpo_loss_args_init(fg_grpo_loss_args* x, size_t size);
FG_API fg_status fg_grpo_loss_scratch(const fg_grpo_loss_args* args, size_t* bytes, fg_error* error);
FG_API fg_status fg_grpo_loss(const fg_grpo_loss_args* args, const fg_loss_options* options, const fg_exec* exec,
                              fg_error* error);

/* --- Rewards -> advantages. Completions of one prompt, a group, follow each other: group_offsets (groups + 1). --- */
typedef struct fg_group_advantages_args {
  size_t struct_size;
  int64_t count; /* B */
  int64_t groups;
  const double* rewards; /* (B) */
  const int32_t* group_offsets;
  float* advantages; /* (B) out */
  float* mean;       /* (groups) out, may be NULL, as the next two: of the group's own rewards */
  float* std;
  uint8_t* zero_std; /* 1: all rewards of the group are equal */
  void* scratch;
  size_t scratch_bytes;
} fg_group_advantages_args;
FG_API fg_status fg_group_advantages_args_init(fg_group_advantages_args* x, size_t size);
FG_API fg_status fg_group_advantages_scratch(const fg_group_advantages_args* args, size_t* bytes, fg_error* error);
FG_API fg_status fg_group_advantages(const fg_group_advantages_args* args, const fg_advantage_options* options,
                                     fg_error* error);

/* Rewards of several functions; NaN: nothing to say. */
typedef struct fg_multi_reward_advantages_args {
  size_t struct_size;
  int64_t functions; /* K */
  int64_t count;     /* B */
  int64_t groups;
  const double* rewards;        /* (K, B) */
  const double* reward_weights; /* (K) */
  const int32_t* group_offsets;
  int32_t multi_objective_aggregation; /* FG_SUM_THEN_NORMALIZE */
  int32_t reserved;
  float* advantages; /* (B) out */
  float* mean;       /* (groups) out, none NULL */
  float* std;
  uint8_t* zero_std;
  void* scratch;
  size_t scratch_bytes;
} fg_multi_reward_advantages_args;
FG_API fg_status fg_multi_reward_advantages_args_init(fg_multi_reward_advantages_args* x, size_t size);
FG_API fg_status fg_multi_reward_advantages_scratch(const fg_multi_reward_advantages_args* args, size_t* bytes,
                                                    fg_error* error);
FG_API fg_status fg_multi_reward_advantages(const fg_multi_reward_advantages_args* args,
                                            const fg_advantage_options* options, fg_error* error);

/* Rewards of steps -> advantages of tokens. Of the options: scale_rewards (group, none), ddof, eps. */
typedef struct fg_process_advantages_args {
  size_t struct_size;
  const fg_layout* layout; /* without a mask */
  int64_t steps;           /* S */
  int64_t groups;
  const double* step_rewards;   /* (S) */
  const int32_t* step_ends;     /* (S) the row of each step's last token, ascending in its sequence */
  const int32_t* step_offsets;  /* (B + 1) */
  const int32_t* group_offsets; /* of sequences */
  float* advantages;            /* (N) out */
  float* mean;                  /* (groups) out, none NULL: of step rewards */
  float* std;
  uint8_t* zero_std;
  void* scratch;
  size_t scratch_bytes;
} fg_process_advantages_args;
FG_API fg_status fg_process_advantages_args_init(fg_process_advantages_args* x, size_t size);
FG_API fg_status fg_process_advantages_scratch(const fg_process_advantages_args* args, size_t* bytes, fg_error* error);
FG_API fg_status fg_process_advantages(const fg_process_advantages_args* args, const fg_advantage_options* options,
                                       fg_error* error);

/* Advantages that train for Pass@k. No scratch on the CPU. */
typedef struct fg_pass_at_k_advantages_args {
  size_t struct_size;
  int64_t count; /* B */
  int64_t groups;
  int64_t k;             /* from 1 to the size of the smallest group that is not empty */
  const double* rewards; /* (B) 0 or 1 */
  const int32_t* group_offsets;
  float* advantages; /* (B) out */
  float* pass_at_k;  /* (groups) out */
  void* scratch;     /* of the GPU only: NULL for the CPU */
  size_t scratch_bytes;
} fg_pass_at_k_advantages_args;
FG_API fg_status fg_pass_at_k_advantages_args_init(fg_pass_at_k_advantages_args* x, size_t size);
FG_API fg_status fg_pass_at_k_advantages(const fg_pass_at_k_advantages_args* args, fg_error* error);

/* A sequence's reward less beta times the KL estimates of its tokens. No scratch on the CPU. */
typedef struct fg_rewards_with_kl_args {
  size_t struct_size;
  const fg_layout* layout;
  const double* rewards; /* (B) */
  const float* logps;    /* (N); neither is read when beta is 0 */
  const float* ref_logps;
  double beta;          /* 0 */
  int32_t kl_estimator; /* FG_K1 */
  int32_t reserved;
  double* out;   /* (B) */
  void* scratch; /* of the GPU only: NULL for the CPU */
  size_t scratch_bytes;
} fg_rewards_with_kl_args;
FG_API fg_status fg_rewards_with_kl_args_init(fg_rewards_with_kl_args* x, size_t size);
FG_API fg_status fg_rewards_with_kl(const fg_rewards_with_kl_args* args, fg_error* error);

/* --- Critics and reward models --- */
typedef struct fg_gae_args {
  size_t struct_size;
  const fg_layout* layout;
  const float* rewards;     /* (N) */
  const float* values;      /* (N) */
  const float* last_values; /* (B) behind the last token. NULL: 0 */
  double gamma;             /* 1 */
  double lambda;            /* 0.95 */
  int32_t whiten;           /* 0 */
  int32_t reserved;
  float* advantages; /* (N) out */
  float* returns;    /* (N) out */
  void* scratch;
  size_t scratch_bytes;
} fg_gae_args;
FG_API fg_status fg_gae_args_init(fg_gae_args* x, size_t size);
FG_API fg_status fg_gae_scratch(const fg_gae_args* args, size_t* bytes, fg_error* error);
FG_API fg_status fg_gae(const fg_gae_args* args, fg_error* error);

/* No scratch on the CPU. */
typedef struct fg_value_loss_args {
  size_t struct_size;
  const fg_layout* layout;
  const float* values;     /* (N) */
  const float* returns;    /* (N) */
  const float* old_values; /* (N), needed and read with a cliprange_value only */
  double cliprange_value;  /* FG_UNSET: no bound */
  double normalizer;       /* FG_UNSET: the selected tokens, at least 1 */
  float* grad_values;      /* (N) out */
  double* loss;            /* (1) out */
  double* clip_ratio;      /* (1) out, may be NULL */
  void* scratch;           /* of the GPU only: NULL for the CPU */
  size_t scratch_bytes;
} fg_value_loss_args;
FG_API fg_status fg_value_loss_args_init(fg_value_loss_args* x, size_t size);
FG_API fg_status fg_value_loss(const fg_value_loss_args* args, fg_error* error);

/* No scratch on the CPU. */
typedef struct fg_preference_loss_args {
  size_t struct_size;
  int64_t pairs; /* B */
  const float* chosen_rewards;
  const float* rejected_rewards;
  const float* margins;              /* may be NULL */
  double center_rewards_coefficient; /* 0 */
  double normalizer;                 /* FG_UNSET: B, at least 1 */
  float* grad_chosen;                /* (B) out */
  float* grad_rejected;              /* (B) out */
  double* loss;                      /* (1) out */
  double* accuracy;                  /* (1) out, may be NULL: the share of pairs with chosen > rejected */
  double* margin;                    /* (1) out, may be NULL: the mean of chosen - rejected */
  void* scratch;                     /* of the GPU only: NULL for the CPU */
  size_t scratch_bytes;
} fg_preference_loss_args;
FG_API fg_status fg_preference_loss_args_init(fg_preference_loss_args* x, size_t size);
FG_API fg_status fg_preference_loss(const fg_preference_loss_args* args, fg_error* error);

/* --- On a GPU: in a library built with CUDA (cmake -DFG_CUDA=ON), else FG_NO_CUDA. ---
 * Every array of the arguments, scratch included, is memory of the current device; the structs are the host's, and so
 * are single results: metrics, loss, clip_ratio, accuracy, margin. Work is queued on `stream` (a cudaStream_t; NULL:
 * the default one), and the call returns when it is done: what the kernels found decides the status. Offsets,
 * step_ends, mask, truncated and reward_weights are copied to the host, to be checked and counted. Results are close to
 * the CPU's, not the same bits. Where rewards, values, or the log-probs of fg_rewards_with_kl are not finite (for
 * Pass@k: not 0 or 1), that is found while outputs are written. Scratch, of every op: fg_cuda_scratch of as many rows
 * as the layout has, or else of `count` or `pairs`. */
FG_API int32_t fg_has_cuda(void); /* 1: built with CUDA */
FG_API fg_status fg_cuda_scratch(int64_t rows_or_count, size_t* bytes, fg_error* error);
FG_API fg_status fg_selective_logp_cuda(const fg_selective_logp_args* args, void* stream, fg_error* error);
FG_API fg_status fg_selective_logp_backward_cuda(const fg_selective_logp_backward_args* args, void* stream,
                                                 fg_error* error);
FG_API fg_status fg_policy_loss_cuda(const fg_policy_loss_args* args, const fg_loss_options* options, void* stream,
                                     fg_error* error);
FG_API fg_status fg_grpo_loss_cuda(const fg_grpo_loss_args* args, const fg_loss_options* options, void* stream,
                                   fg_error* error);
FG_API fg_status fg_group_advantages_cuda(const fg_group_advantages_args* args, const fg_advantage_options* options,
                                          void* stream, fg_error* error);
FG_API fg_status fg_multi_reward_advantages_cuda(const fg_multi_reward_advantages_args* args,
                                                 const fg_advantage_options* options, void* stream, fg_error* error);
FG_API fg_status fg_process_advantages_cuda(const fg_process_advantages_args* args, const fg_advantage_options* options,
                                            void* stream, fg_error* error);
FG_API fg_status fg_pass_at_k_advantages_cuda(const fg_pass_at_k_advantages_args* args, void* stream, fg_error* error);
FG_API fg_status fg_rewards_with_kl_cuda(const fg_rewards_with_kl_args* args, void* stream, fg_error* error);
FG_API fg_status fg_gae_cuda(const fg_gae_args* args, void* stream, fg_error* error);
FG_API fg_status fg_value_loss_cuda(const fg_value_loss_args* args, void* stream, fg_error* error);
FG_API fg_status fg_preference_loss_cuda(const fg_preference_loss_args* args, void* stream, fg_error* error);

#ifdef __cplusplus
}
#endif

#endif /* FUSED_GRPO_H */
