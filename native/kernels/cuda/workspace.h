#pragma once
// Scratch of the vocabulary-sized and token-sized ops: what `prepare` leaves for the launch that follows it.
#include "kernels/cuda/ops.h"

namespace fg::cuda {

inline constexpr int64_t kMaxSegments = 1024;  // blocks of prepare
inline constexpr int64_t kMaxPartials = 4096;  // clusters, or blocks, of the launch that follows

/// The first fault by (stage, row), as one number: faults of an earlier stage come first, as on the CPU.
using FaultKey = uint64_t;
inline constexpr FaultKey kNoFault = ~uint64_t(0);
enum class Stage : uint64_t { rewards, targets, tokens, values };
FG_HD inline FaultKey fault_key(Stage stage, int64_t row, kernels::Fault fault) {
  return uint64_t(stage) << 60 | uint64_t(row) << 8 | uint64_t(fault);
}
FG_HD inline kernels::Status fault_of(FaultKey key) {
  if (key == kNoFault) return {};
  return {kernels::Fault(key & 0xFF), int64_t(key >> 8 & ((uint64_t(1) << 52) - 1))};
}

/// Everything that a row's block must know before it can start, in one 32-byte sector.
struct alignas(32) RowPlan {
  int64_t logits, grad;  // elements from the matrices' first
  int32_t target;        // below 0: the row is not selected
  int32_t sequence;
  float weight;  // of the token's loss in the total
  float factor;  // of its surrogate, where that is known before the log-probs
  FG_HD bool selected() const { return target >= 0; }
};

/// What a statistic of the batch has decided (choose_tokens.cu).
struct BatchChoice {
  float entropy_threshold;
  float entropy_weight;  // of a kept token's entropy in the total
};

/// What one cluster (or block) contributes: summed in the order of their numbers by whoever finishes last.
struct Partial {
  double loss, kl, entropy, ratio, ratio_min, ratio_max;
  int64_t tokens, clipped_low, clipped_high;
  FaultKey fault;
};
FG_HD inline Partial empty_partial() {
  constexpr double inf = std::numeric_limits<double>::infinity();
  return {0, 0, 0, 0, inf, -inf, 0, 0, 0, kNoFault};
}

struct Workspace {
  uint32_t* ticket;
  FaultKey* carried;  // the first fault of the launches so far, prepare's apart
  BatchChoice* choice;
  FaultKey* faults;   // (kMaxSegments)
  Partial* partials;  // (kMaxPartials)
  RowPlan* plan;      // (rows)
  // Where an op has two phases, (rows) each:
  float *logps, *entropies, *grad_logps, *grad_entropies;
  uint32_t* keys;   // in which order tokens are chosen
  uint8_t* chosen;  // by the covariance
};
inline Workspace carve(void* memory, int64_t rows) {
  char* p = static_cast<char*>(memory);
  Workspace w;
  w.ticket = reinterpret_cast<uint32_t*>(p);
  w.carried = reinterpret_cast<FaultKey*>(p + 32);
  w.choice = reinterpret_cast<BatchChoice*>(p + 64);
  w.faults = reinterpret_cast<FaultKey*>(p += 128);
  w.partials = reinterpret_cast<Partial*>(p += kMaxSegments * sizeof(FaultKey));
  p += kMaxPartials * sizeof(Partial);
  p += (32 - reinterpret_cast<uintptr_t>(p) % 32) % 32;
  w.plan = reinterpret_cast<RowPlan*>(p);
  float* tokens = reinterpret_cast<float*>(w.plan + rows);
  w.logps = tokens, w.entropies = tokens + rows, w.grad_logps = tokens + 2 * rows;
  w.grad_entropies = tokens + 3 * rows;
  w.keys = reinterpret_cast<uint32_t*>(tokens + 4 * rows);
  w.chosen = reinterpret_cast<uint8_t*>(tokens + 5 * rows);
  return w;
}

/// The launch that comes before every other of an op: checks, weights, where rows lie, advantages from rewards.
struct PrepareTask {
  Layout layout;
  Rows logits, grad;                 // data may be null: no such matrix
  const int32_t* targets = nullptr;  // null: none to check
  bool weights = false;              // needs params and normalizer
  bool corrects = false;             // the sampler's weights become the rows' factors
  LossParams params;
  double normalizer = 1;
  const float* token_weights = nullptr;  // (rows): given
  const float *old_logps = nullptr, *ref_logps = nullptr,
              *sampler_logps = nullptr;  // checked where not null, as these:
  const float* advantages = nullptr;
  bool advantages_per_token = false;
  const float *logps = nullptr, *entropies = nullptr;
  const float *grad_logps = nullptr, *grad_entropies = nullptr;  // rows where both are 0 are not selected
  GroupAdvantagesArgs rewards;  // count > 0: one per sequence, turned into advantages here
  bool only_rewards = false;    // the op ends here
  Outcome* outcome = nullptr;   // with only_rewards
  Workspace workspace;
};
/// `segments` comes back: the number of entries in workspace.faults.
Launch prepare(void* stream, const PrepareTask&, int64_t* segments);

}  // namespace fg::cuda
