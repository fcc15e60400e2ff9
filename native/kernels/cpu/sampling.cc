// From a row of logits to a token and its log-prob.
#include "math/sampling.h"

#include <algorithm>
#include <functional>

#include "kernels/decode.h"
#include "math/random.h"

namespace fg {
namespace {

constexpr int64_t kBlock = 512;    // sums: float32 inside a block, float64 across blocks
constexpr int64_t kMaxBlock = 64;  // top-k looks at the maxima of blocks first

struct Candidate {
  float weight;  // exp((z - max) / temperature) after the penalty
  int32_t id;
};
bool heavier(const Candidate& a, const Candidate& b) {
  return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
}

struct Scratch {
  float* z;              // (vocab) logits, later penalised
  float* weight;         // (vocab)
  Candidate* candidate;  // (vocab)
  float* maxima;         // (vocab / 64 + 1)
};

Scratch carve(void* workspace, int64_t vocab) {
  const int64_t n = (vocab + 15) / 16 * 16;
  auto* floats = static_cast<float*>(workspace);
  return {floats, floats + n, reinterpret_cast<Candidate*>(floats + 2 * n), floats + 4 * n};
}

/// Copies a row as float32; returns its maximum, or NaN when the row holds a NaN.
template <class T>
FG_INLINE float copy_max(const T* from, int64_t n, float* to) {
  float top[kLanes], bad[kLanes];
  for (int j = 0; j < kLanes; ++j) top[j] = -INFINITY, bad[j] = 0.0f;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) {
      const float z = load(from + i + j);
      to[i + j] = z;
      top[j] = z > top[j] ? z : top[j];
      bad[j] = z != z ? 1.0f : bad[j];
    }
  for (int j = 0; i < n; ++i, ++j) {
    const float z = load(from + i);
    to[i] = z;
    top[j] = z > top[j] ? z : top[j];
    bad[j] = z != z ? 1.0f : bad[j];
  }
  float max = -INFINITY, any = 0.0f;
  for (int j = 0; j < kLanes; ++j) max = top[j] > max ? top[j] : max, any += bad[j];
  return any > 0 ? NAN : max;
}

FG_CLONES float load_row(const void* logits, DType dtype, int64_t n, float* to) {
  return dtype == DType::f32 ? copy_max(static_cast<const float*>(logits), n, to)
                             : copy_max(static_cast<const bf16*>(logits), n, to);
}

/// weight[i] = exp((z[i] - max) * inverse); returns the sum.
FG_CLONES double exponentiate(const float* z, int64_t n, float max, float inverse, float* weight) {
  double sum = 0;
  for (int64_t b = 0; b < n; b += kBlock) {
    const int64_t m = std::min(kBlock, n - b);
    for (int64_t i = b; i < b + m; ++i) weight[i] = exp_fast((z[i] - max) * inverse);
    sum += lane_sum(m, [&](int64_t i) { return weight[b + i]; });
  }
  return sum;
}

FG_CLONES double block_sum(const float* weight, int64_t n) {
  return lane_sum(n, [&](int64_t i) { return weight[i]; });
}

int32_t first_maximum(const float* z, int64_t n) { return static_cast<int32_t>(std::max_element(z, z + n) - z); }

void penalise(float* z, int64_t n, const uint8_t* seen, float penalty) {
  for (int64_t i = 0; i < n; ++i)
    if (seen[i]) z[i] = penalised(z[i], penalty);
}

/// The entry where the running sum passes `target`; the last entry of positive weight when rounding carried the target
/// past the end. An entry of weight 0 is never chosen.
int32_t draw_all(const float* weight, int64_t n, double target) {
  double sum = 0;
  int32_t last = -1;
  for (int64_t b = 0; b < n; b += kBlock) {
    const int64_t m = std::min(kBlock, n - b);
    const double block = block_sum(weight + b, m);
    if (sum + block > target || b + m >= n) {
      double inner = sum;
      for (int64_t i = b; i < b + m; ++i) {
        if (weight[i] <= 0) continue;
        last = static_cast<int32_t>(i);
        inner += weight[i];
        if (inner > target) return last;
      }
    } else if (block > 0) {
      for (int64_t i = b + m; i-- > b && last < b;)
        if (weight[i] > 0) last = static_cast<int32_t>(i);
    }
    sum += block;
  }
  return last;
}

int32_t draw(const Candidate* c, int64_t n, double uniform) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += c[i].weight;
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += c[i].weight;
    if (sum > uniform * total) return c[i].id;
  }
  return c[n - 1].id;
}

int64_t collect(const float* weight, int64_t n, float least, Candidate* out) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i)
    if (weight[i] >= least && weight[i] > 0) out[count++] = {weight[i], static_cast<int32_t>(i)};
  return count;
}

/// The k heaviest entries and whatever ties with the k-th. At least k entries reach the k-th largest of the block
/// maxima, so smaller ones need not be looked at.
int64_t take_top_k(const float* weight, int64_t n, int64_t k, const Scratch& s) {
  const int64_t blocks = (n + kMaxBlock - 1) / kMaxBlock;
  float floor = 0;
  if (k < blocks) {
    for (int64_t b = 0; b < blocks; ++b)
      s.maxima[b] = *std::max_element(weight + b * kMaxBlock, weight + std::min(n, (b + 1) * kMaxBlock));
    std::nth_element(s.maxima, s.maxima + k - 1, s.maxima + blocks, std::greater<>());
    floor = s.maxima[k - 1];
  }
  const int64_t count = collect(weight, n, floor, s.candidate);
  if (count <= k) return count;
  std::nth_element(s.candidate, s.candidate + k - 1, s.candidate + count, heavier);
  const float least = s.candidate[k - 1].weight;
  return std::partition(s.candidate, s.candidate + count, [&](const Candidate& c) { return c.weight >= least; }) -
         s.candidate;
}

/// Sorts, and keeps an entry while the mass of heavier ones is below p.
int64_t cut_top_p(Candidate* c, int64_t n, double p, double mass) {
  std::sort(c, c + n, heavier);
  double above = 0;
  int64_t kept = 0;
  while (kept < n && (kept == 0 || above < p * mass)) above += c[kept++].weight;
  return kept;
}

int32_t draw_truncated(const SampleParams& p, int64_t vocab, double mass, double uniform, const Scratch& s) {
  int64_t count;
  if (p.top_k > 0 && p.top_k < vocab) {
    count = take_top_k(s.weight, vocab, p.top_k, s);
    mass = 0;
    for (int64_t i = 0; i < count; ++i) mass += s.candidate[i].weight;
  } else {
    // An entry below (1 - p) / vocab of the mass, and all entries lighter than it, weigh less than 1 - p together:
    // top-p drops them anyway. The comparison is made a little smaller so that rounding cannot drop more.
    const double least = p.top_p < 1 ? (1.0 - p.top_p) * mass / static_cast<double>(vocab) * 0.999 : 0.0;
    count = collect(s.weight, vocab, static_cast<float>(least), s.candidate);
  }
  if (p.top_p < 1)
    count = cut_top_p(s.candidate, count, p.top_p, mass);
  else
    std::sort(s.candidate, s.candidate + count, heavier);
  if (p.min_p > 0) {
    const float least = p.min_p * s.candidate[0].weight;
    while (count > 1 && s.candidate[count - 1].weight < least) --count;
  }
  return draw(s.candidate, count, uniform);
}

}  // namespace

int64_t sample_workspace(int64_t vocab) {
  const int64_t n = (vocab + 15) / 16 * 16;
  return static_cast<int64_t>(sizeof(float)) * (4 * n + n / kMaxBlock + 2);
}

void sample_row(const void* logits, int64_t vocab, DType dtype, const SampleParams& p, SampleRow& row,
                void* workspace) {
  const Scratch s = carve(workspace, vocab);
  row.chosen = -1;
  row.logp = NAN;
  row.status = SampleStatus::not_finite;
  const float max = load_row(logits, dtype, vocab, s.z);
  if (!std::isfinite(max)) return;
  const bool greedy = p.temperature == 0.0f;
  const float inverse = greedy ? 1.0f : 1.0f / p.temperature;
  const double all = exponentiate(s.z, vocab, max, inverse, s.weight);
  row.status = SampleStatus::ok;
  auto settle = [&](int32_t token, float z, float weight) {
    row.chosen = token;
    row.logp =
        static_cast<float>(log_softmax((static_cast<double>(z) - max) * inverse, std::max(0.0, all - weight), all));
  };
  const double uniform = token_uniform(p.seed, p.step, row.prompt, row.completion, row.token);
  const bool truncated = p.top_k > 0 || p.top_p < 1.0f || p.min_p > 0.0f;
  if (p.repetition_penalty == 1.0f) {
    const int32_t token = greedy      ? first_maximum(s.z, vocab)
                          : truncated ? draw_truncated(p, vocab, all, uniform, s)
                                      : draw_all(s.weight, vocab, uniform * all);
    return settle(token, s.z[token], s.weight[token]);
  }
  penalise(s.z, vocab, row.seen, p.repetition_penalty);
  const float top = *std::max_element(s.z, s.z + vocab);
  int32_t token = first_maximum(s.z, vocab);
  if (!greedy) {
    const double mass = exponentiate(s.z, vocab, top, inverse, s.weight);
    token = truncated ? draw_truncated(p, vocab, mass, uniform, s) : draw_all(s.weight, vocab, uniform * mass);
  }
  // The log-prob is that of the logits as they were.
  const float z = dtype == DType::f32 ? load(static_cast<const float*>(logits) + token)
                                      : load(static_cast<const bf16*>(logits) + token);
  settle(token, z, exp_fast((z - max) * inverse));
}

}  // namespace fg
