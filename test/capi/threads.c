/* Eight threads at once, each running every op on arrays of its own, alone, on threads of the call's own and on one pool
 * that all share: the same bits as one thread by itself. Exit code 0, or 1 and what differed. */
#include <fused_grpo.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { B = 6, T = 7, N = B * T, V = 1500, THREADS = 8, TIMES = 12, LOSSES = 4 };

typedef struct results {
  float logps[N], lse[N], entropies[N], grad[N * V], policy_grad[N], loss_logps[LOSSES][N], advantages[B], returns[N];
  double losses[LOSSES + 1];
} results;

typedef struct work {
  const float* logits;
  fg_pool* pool;
  results* out;
  int seed, failed;
} work;

static float noise(unsigned i) { return (float)sin((double)i * 12.9898 + (double)(i % 97) * 78.233) * 4; }

#define CHECK(call)                                                \
  do {                                                             \
    if ((call) != FG_OK) {                                         \
      fprintf(stderr, "%s: %s\n", #call, error.message);           \
      return 1;                                                    \
    }                                                              \
  } while (0)

static int run(const work* w, const fg_exec* exec) {
  results* r = w->out;
  static const int types[LOSSES] = {FG_DAPO, FG_GMPO, FG_KL_COV, FG_VESPO};
  int32_t offsets[B + 1], groups[2], targets[N];
  uint8_t mask[N];
  float old[N];
  double rewards[B];
  char* scratch = malloc(1 << 16);
  float* copy = malloc(sizeof r->grad);
  int i, k;
  fg_error error;
  fg_layout layout;
  fg_matrix logits, grad;
  fg_policy_batch batch;
  fg_metrics metrics;
  fg_loss_options options;
  fg_error_init(&error, sizeof error), fg_layout_init(&layout, sizeof layout), fg_matrix_init(&logits, sizeof logits);
  fg_policy_batch_init(&batch, sizeof batch), fg_metrics_init(&metrics, sizeof metrics);
  CHECK(fg_uniform_offsets(B, T, offsets, &error));
  CHECK(fg_uniform_offsets(1, B, groups, &error));
  for (i = 0; i < N; ++i) targets[i] = (i * 37) % V, mask[i] = i % 5 != 0, old[i] = -7 - noise((unsigned)i) / 8;
  for (i = 0; i < B; ++i) rewards[i] = noise((unsigned)i);
  layout.rows = N, layout.sequences = B, layout.offsets = offsets, layout.mask = mask;
  logits.vocab = V, logits.data = memcpy(copy, w->logits, sizeof r->grad);
  grad = logits;
  batch.layout = &layout, batch.old_logps = old, batch.advantages = r->advantages;

  fg_group_advantages_args ga;
  fg_group_advantages_args_init(&ga, sizeof ga);
  ga.count = B, ga.groups = 1, ga.rewards = rewards, ga.group_offsets = groups, ga.advantages = r->advantages;
  ga.scratch = scratch, ga.scratch_bytes = 1 << 16;
  CHECK(fg_group_advantages(&ga, NULL, &error));

  fg_selective_logp_args sl;
  fg_selective_logp_args_init(&sl, sizeof sl);
  sl.layout = &layout, sl.logits = &logits, sl.targets = targets;
  sl.logps = r->logps, sl.lse = r->lse, sl.entropies = r->entropies, sl.scratch = scratch, sl.scratch_bytes = 1 << 16;
  CHECK(fg_selective_logp(&sl, exec, &error));

  fg_policy_loss_args pl;
  fg_policy_loss_args_init(&pl, sizeof pl);
  pl.batch = &batch, pl.logps = r->logps, pl.grad_logps = r->policy_grad, pl.metrics = &metrics;
  pl.scratch = scratch, pl.scratch_bytes = 1 << 16;
  CHECK(fg_policy_loss(&pl, NULL, exec, &error));
  r->losses[LOSSES] = metrics.loss;

  fg_gae_args g;
  float deltas[N];
  fg_gae_args_init(&g, sizeof g);
  g.layout = &layout, g.rewards = r->logps, g.values = old, g.advantages = deltas, g.returns = r->returns;
  g.scratch = scratch, g.scratch_bytes = 1 << 16;
  CHECK(fg_gae(&g, &error));

  fg_grpo_loss_args gl;
  fg_grpo_loss_args_init(&gl, sizeof gl);
  gl.batch = &batch, gl.logits = &logits, gl.grad = &grad, gl.targets = targets, gl.metrics = &metrics;
  gl.scratch = scratch, gl.scratch_bytes = 1 << 16;
  for (k = 0; k < LOSSES; ++k) {
    memcpy(copy, w->logits, sizeof r->grad);
    fg_loss_options_init(&options, sizeof options);
    options.loss_type = types[k];
    gl.logps = r->loss_logps[k];
    CHECK(fg_grpo_loss(&gl, &options, exec, &error));
    r->losses[k] = metrics.loss;
    for (i = 0; i < N * V; ++i) r->grad[i] = k == 0 ? copy[i] : r->grad[i] + copy[i];
  }
  free(scratch), free(copy);
  return 0;
}

static results expected;

static void* repeat(void* state) {
  work* w = state;
  int i;
  fg_exec own, pooled;
  fg_exec_init(&own, sizeof own), fg_exec_init(&pooled, sizeof pooled);
  own.threads = 3, pooled.pool = w->pool;
  for (i = 0; i < TIMES && !w->failed; ++i) {
    const int how = (i + w->seed) % 4;
    memset(w->out, 0, sizeof *w->out);
    if (run(w, how == 0 ? NULL : how == 1 ? &own : &pooled)) w->failed = 1;
    if (memcmp(w->out, &expected, sizeof expected) != 0) fprintf(stderr, "other bits (%d)\n", how), w->failed = 1;
  }
  return NULL;
}

int main(void) {
  static float logits[N * V];
  static results outs[THREADS];
  pthread_t threads[THREADS];
  work works[THREADS], alone = {logits, NULL, &expected, 0, 0};
  fg_pool* pool;
  int i, failed = 0;
  for (i = 0; i < N * V; ++i) logits[i] = noise((unsigned)i);
  if (run(&alone, NULL) || fg_pool_create(3, &pool, NULL) != FG_OK) return 1;
  for (i = 0; i < THREADS; ++i) {
    const work w = {logits, pool, &outs[i], i, 0};
    works[i] = w;
    if (pthread_create(&threads[i], NULL, repeat, &works[i])) return 1;
  }
  for (i = 0; i < THREADS; ++i) pthread_join(threads[i], NULL), failed |= works[i].failed;
  fg_pool_destroy(pool);
  printf("%s, loss %.17g\n", failed ? "failed" : "the same", expected.losses[0]);
  return failed;
}
