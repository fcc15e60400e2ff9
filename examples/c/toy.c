/* A toy policy trained by GRPO from C: a table of logits, one row per position of a completion. The reward is the share
 * of positions that hold the wanted token. Prints the mean reward of the first and of the last step. */
#include <fused_grpo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 16, LENGTH = 4, GROUP = 8, ROWS = GROUP * LENGTH, STEPS = 150 };

static uint32_t state = 1;
static double uniform(void) {
  state = state * 1664525u + 1013904223u;
  return (double)(state >> 8) / 16777216.0;
}

static int32_t sample(const float* logits) {
  double sum = 0, at;
  int32_t j;
  for (j = 0; j < VOCAB; ++j) sum += exp((double)logits[j]);
  at = uniform() * sum;
  for (j = 0; j + 1 < VOCAB && (at -= exp((double)logits[j])) > 0; ++j) {
  }
  return j;
}

static void check(fg_status status, const fg_error* error) {
  if (status == FG_OK) return;
  fprintf(stderr, "%s: %s\n", fg_status_name(status), error->message);
  exit(1);
}

/* What is the same in every step is set up once. */
typedef struct trainer {
  float policy[LENGTH][VOCAB], logits[ROWS * VOCAB], advantages[GROUP];
  int32_t targets[ROWS], offsets[GROUP + 1], group_offsets[2];
  double rewards[GROUP];
  fg_error error;
  fg_layout layout;
  fg_matrix matrix;
  fg_policy_batch batch;
  fg_metrics metrics;
  fg_grpo_loss_args loss;
  fg_group_advantages_args group;
} trainer;

/* More scratch where the op asks for it: for as long as the program runs. */
static void* scratch_of(size_t bytes) {
  void* memory = malloc(bytes);
  if (!memory) exit(1);
  return memory;
}

static void set_up(trainer* t) {
  memset(t, 0, sizeof *t);
  fg_error_init(&t->error, sizeof t->error);
  check(fg_uniform_offsets(GROUP, LENGTH, t->offsets, &t->error), &t->error);
  check(fg_uniform_offsets(1, GROUP, t->group_offsets, &t->error), &t->error);

  fg_layout_init(&t->layout, sizeof t->layout);
  t->layout.rows = ROWS, t->layout.sequences = GROUP, t->layout.offsets = t->offsets;
  fg_matrix_init(&t->matrix, sizeof t->matrix);
  t->matrix.data = t->logits, t->matrix.dtype = FG_FLOAT32, t->matrix.vocab = VOCAB;
  fg_policy_batch_init(&t->batch, sizeof t->batch);
  t->batch.layout = &t->layout, t->batch.advantages = t->advantages;
  fg_metrics_init(&t->metrics, sizeof t->metrics);

  fg_group_advantages_args_init(&t->group, sizeof t->group);
  t->group.count = GROUP, t->group.groups = 1;
  t->group.rewards = t->rewards, t->group.group_offsets = t->group_offsets, t->group.advantages = t->advantages;
  check(fg_group_advantages_scratch(&t->group, &t->group.scratch_bytes, &t->error), &t->error);
  t->group.scratch = scratch_of(t->group.scratch_bytes);

  fg_grpo_loss_args_init(&t->loss, sizeof t->loss);
  t->loss.batch = &t->batch, t->loss.logits = &t->matrix, t->loss.targets = t->targets;
  t->loss.grad = &t->matrix; /* in place */
  t->loss.metrics = &t->metrics;
  check(fg_grpo_loss_scratch(&t->loss, &t->loss.scratch_bytes, &t->error), &t->error);
  t->loss.scratch = scratch_of(t->loss.scratch_bytes);
}

/* Samples a group, and returns its mean reward. */
static double roll_out(trainer* t) {
  double mean = 0;
  int b, i;
  for (b = 0; b < GROUP; ++b) {
    t->rewards[b] = 0;
    for (i = 0; i < LENGTH; ++i) {
      const int row = b * LENGTH + i;
      memcpy(t->logits + row * VOCAB, t->policy[i], sizeof t->policy[i]);
      t->targets[row] = sample(t->policy[i]);
      t->rewards[b] += (t->targets[row] == 3 * i + 1) / (double)LENGTH;
    }
    mean += t->rewards[b] / GROUP;
  }
  return mean;
}

static void step(trainer* t) {
  int row, j;
  check(fg_group_advantages(&t->group, NULL, &t->error), &t->error);
  check(fg_grpo_loss(&t->loss, NULL, NULL, &t->error), &t->error); /* default options, on this thread */
  for (row = 0; row < ROWS; ++row)
    for (j = 0; j < VOCAB; ++j) t->policy[row % LENGTH][j] -= 4 * t->logits[row * VOCAB + j];
}

int main(void) {
  static trainer t;
  double first = 0, last = 0;
  int i;
  if (fg_abi_version() != FG_ABI_VERSION) return 1;
  set_up(&t);
  for (i = 0; i < STEPS; ++i) {
    last = roll_out(&t);
    if (i == 0) first = last;
    step(&t);
  }
  printf("fused-grpo %s: mean reward %.3f in the first step, %.3f in the last\n", fg_version(), first, last);
  free(t.group.scratch), free(t.loss.scratch);
  return last > 0.9 ? 0 : 1;
}
