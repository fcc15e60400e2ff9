#include "matrices.h"

#include <algorithm>
#include <cmath>

namespace fg::check {

Bytes pattern_of(DType dtype, int64_t rows, int64_t vocab) {
  Bytes b(size_t(rows * vocab * size_of(dtype)));
  Random d{42};
  for (int64_t i = 0; i < rows * vocab; ++i) put(b.data(), dtype, i, float(6 * d.unit() - 3));
  return b;
}

void fill_matrix(void* to, const Bytes& pattern, int64_t rows, int64_t row_bytes) {
  const int64_t distinct = int64_t(pattern.size()) / row_bytes;
  MUST(cudaMemcpy(to, pattern.data(), size_t(std::min(rows, distinct) * row_bytes), cudaMemcpyHostToDevice));
  for (int64_t done = distinct; done < rows; done *= 2)
    MUST(cudaMemcpy(static_cast<char*>(to) + done * row_bytes, to, size_t(std::min(done, rows - done) * row_bytes),
                    cudaMemcpyDeviceToDevice));
}

namespace {

template <class T>
void upload(const Buffer& b, const std::vector<T>& v) {
  MUST(cudaMemcpy(b.p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
}

}  // namespace

Problem::Problem(DType t, int64_t n, int64_t v)
    : dtype(t),
      rows(n),
      vocab(v),
      sequences((n + 7) / 8),
      logits(size_t(n * v * size_of(t))),
      targets(size_t(n) * 4),
      old_logps(size_t(n) * 4),
      advantages(size_t(sequences) * 4),
      offsets(size_t(sequences + 1) * 4),
      logps(size_t(n) * 4),
      workspace(cuda::workspace_bytes(n)),
      outcome(sizeof(cuda::Outcome)) {
  std::vector<int32_t> target, offset;
  std::vector<float> old, advantage;
  for (int64_t i = 0; i < n; ++i)
    target.push_back(int32_t(i * 7919 % v)), old.push_back(float(-std::log(double(v)) - 0.3));
  for (int64_t s = 0; s <= sequences; ++s) offset.push_back(int32_t(std::min(n, s * 8)));
  for (int64_t s = 0; s < sequences; ++s) advantage.push_back(s % 2 ? 0.7f : -1.1f);
  upload(targets, target), upload(offsets, offset), upload(old_logps, old), upload(advantages, advantage);
}

Layout Problem::layout(int64_t first, int64_t count) const {
  if (first == 0 && count == rows) return {rows, sequences, offsets.as<int32_t>(), nullptr, nullptr};
  return {count, 1, nullptr, nullptr, nullptr};
}

cuda::Launch Problem::grpo(int64_t first, int64_t count) const {
  GrpoLossArgs a;
  a.batch.layout = layout(first, count);
  a.batch.old_logps = old_logps.as<float>() + first, a.batch.advantages = advantages.as<float>() + first / 8;
  a.batch.normalizer = 1;  // gradients that do not vanish in half precision
  a.logits = a.grad = {logits.as<char>() + first * row_bytes(), dtype, vocab, vocab, 0};
  a.targets = targets.as<int32_t>() + first, a.logps = logps.as<float>() + first;
  return cuda::grpo_loss(kStream, LossParams{}, a, nullptr, workspace.p, outcome.as<cuda::Outcome>());
}

cuda::Launch Problem::forward() const {
  SelectiveLogpArgs a;
  a.layout = layout(0, rows), a.logits = {logits.p, dtype, vocab, vocab, 0};
  a.targets = targets.as<int32_t>(), a.logps = logps.as<float>();
  return cuda::selective_logp(kStream, a, workspace.p, outcome.as<cuda::Outcome>());
}

cuda::Outcome Problem::read() const {
  cuda::Outcome o;
  MUST(cudaDeviceSynchronize());
  MUST(cudaMemcpy(&o, outcome.p, sizeof o, cudaMemcpyDeviceToHost));
  return o;
}

}  // namespace fg::check
