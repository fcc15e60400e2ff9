#include "kernels/cuda/table.h"

#include <cstdlib>
#include <cstring>

namespace fg::cuda {
namespace {

char forced[16] = "";
enum class Forced { no, block, cluster };

Forced forced_variant() {
  const char* environment = std::getenv("FUSED_GRPO_CUDA_KERNEL");
  const char* name = forced[0] ? forced : environment ? environment : "";
  if (std::strcmp(name, "block") == 0) return Forced::block;
  return std::strcmp(name, "cluster") == 0 ? Forced::cluster : Forced::no;
}

/// Every row of the gradient begins at the same place inside 16 bytes as its row of logits.
bool same_alignment(const RowTask& t) {
  const auto differ = [&](int64_t a, int64_t b) { return (a - b) * size_of(t.logits.dtype) % 16 != 0; };
  const auto place = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16; };
  if (place(t.logits.data) != place(t.grad.data) || differ(t.logits.row_stride, t.grad.row_stride)) return false;
  const bool by_sequence = t.logits.sequence_stride != 0 || t.grad.sequence_stride != 0;
  if (!by_sequence) return true;
  if (t.logits.sequence_stride == 0 || t.grad.sequence_stride == 0) return false;  // not worth finding out
  return !differ(t.logits.sequence_stride, t.grad.sequence_stride);
}

}  // namespace

void force_variant(const char* name) { std::strncpy(forced, name ? name : "", sizeof forced - 1); }

ClusterChoice choose_cluster(DType dtype, int64_t vocab) {
  const int64_t vectors = vocab * size_of(dtype) < 16 ? 1 : vocab * size_of(dtype) / 16;
  ClusterChoice c;
  for (c.blocks = 1; c.blocks <= 8; c.blocks *= 2) {
    const int64_t slice = (vectors + c.blocks - 1) / c.blocks;
    if (slice > 16 * 256 && !(c.blocks == 8 && slice <= 16 * 512)) continue;
    c.threads = slice <= 16 * 256 ? 256 : 512;
    const int64_t each = (slice + c.threads - 1) / c.threads;
    c.vectors = each <= 4 ? 4 : each <= 8 ? 8 : each <= 12 ? 12 : 16;
    if (c.threads == 512) c.vectors = 16;
    if (each > 16) break;
    c.slice = int(slice);
    return c;
  }
  c.blocks = 0;
  return c;
}

Launch launch_rows(void* stream, const RowTask& t) {
  const Device device = current_device();
  if (device.code != 0) return {device.code, "current_device", __FILE__, __LINE__};
  const Forced forced_to = forced_variant();
  const ClusterChoice choice = choose_cluster(t.logits.dtype, t.logits.vocab);
  const bool possible = device.major >= 9 && t.grad.data && choice.blocks > 0 && same_alignment(t);
  if (possible && forced_to != Forced::block) return launch_rows_cluster(stream, t, device, choice);
  return launch_rows_block(stream, t, device);
}

}  // namespace fg::cuda
