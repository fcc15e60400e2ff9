// Matrices with more than 2^31 elements, or very many rows: parts of them against the same rows on their own.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "compare.h"
#include "kernels/cuda/table.h"
#include "matrices.h"
#include "parts.h"

namespace fg::check {
namespace {

constexpr int64_t kDistinct = 13;  // prime to the 8 rows of a sequence

struct Slice {
  Bytes grad;
  std::vector<float> logps;
};
Slice slice(const Problem& p, int64_t first, int64_t count) {
  const int64_t row = p.row_bytes();
  Slice s{Bytes(size_t(count * row)), std::vector<float>(size_t(count))};
  MUST(cudaMemcpy(s.grad.data(), p.logits.as<char>() + first * row, s.grad.size(), cudaMemcpyDeviceToHost));
  MUST(cudaMemcpy(s.logps.data(), p.logps.as<float>() + first, s.logps.size() * 4, cudaMemcpyDeviceToHost));
  return s;
}

/// The same rows of `p` as a problem of their own, which no offset makes large.
Slice alone(const Problem& p, const Bytes& pattern, int64_t first, int64_t count) {
  const int64_t row = p.row_bytes();
  Problem small(p.dtype, 8, p.vocab);
  Bytes again(size_t(count * row));
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(again.data() + i * row, pattern.data() + (first + i) % kDistinct * row, size_t(row));
  MUST(cudaMemcpy(small.logits.p, again.data(), again.size(), cudaMemcpyHostToDevice));
  MUST(cudaMemcpy(small.targets.p, p.targets.as<int32_t>() + first, size_t(count) * 4, cudaMemcpyDeviceToDevice));
  MUST(cudaMemcpy(small.advantages.p, p.advantages.as<float>() + first / 8, 4, cudaMemcpyDeviceToDevice));
  launched(small.grpo(0, count));
  small.read();
  return slice(small, 0, count);
}

std::string differ_slices(const Slice& whole, const Slice& part) {
  std::string found = differ("logps", whole.logps, part.logps, 0);
  if (found.empty() && whole.grad != part.grad) found = "gradients differ";
  if (found.empty() && std::all_of(part.grad.begin(), part.grad.end(), [](unsigned char b) { return b == 0; }))
    found = "the gradient is 0";
  return found;
}

/// The whole matrix at once, then the rows at `firsts` (multiples of 8) eight by eight.
void large_case(const char* variant, int64_t rows, int64_t vocab, const std::vector<int64_t>& firsts) {
  cuda::force_variant(variant);
  const Bytes pattern = pattern_of(DType::bf16, kDistinct, vocab);
  Problem p(DType::bf16, rows, vocab);
  fill_matrix(p.logits.p, pattern, rows, p.row_bytes());
  launched(p.grpo(0, rows));
  const cuda::Outcome o = p.read();
  Case named;
  named.dtype = DType::bf16, named.rows = rows, named.vocab = vocab, named.shape.row_stride = vocab;
  report(named, "large, status and count", variant,
         o.status.ok() && o.metrics.tokens == rows && o.metrics.sequences == p.sequences
             ? ""
             : text("fault %d in row %lld, %lld tokens", int(o.status.fault), (long long)o.status.row,
                    (long long)o.metrics.tokens));
  for (const int64_t first : firsts) {
    const int64_t count = std::min<int64_t>(8, rows - first);
    named.base = first;
    report(named, "large, rows from `base` on", variant,
           differ_slices(slice(p, first, count), alone(p, pattern, first, count)));
  }
  cuda::force_variant(nullptr);
}

}  // namespace

int large() {
  size_t free_bytes = 0, total = 0;
  MUST(cudaMemGetInfo(&free_bytes, &total));
  for (const char* variant : variants_here()) {
    if (free_bytes < size_t(5) << 30)
      std::printf("large: 14,300 rows of 151,936 skipped, only %.1f GB free\n", double(free_bytes) / 1e9);
    else  // element 2^31 is in row 14,134
      large_case(variant, 14300, 151936, {0, 7064, 14128, 14136, 14288, 14296});
    large_case(variant, 70001, 17, {0, 32768, 65528, 65536, 70000});
    large_case(variant, 200003, 64, {0, 65536, 131072, 200000});
  }
  return finish("large");
}

}  // namespace fg::check
