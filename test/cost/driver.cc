// Runs one op once on made-up rows, for counting its instructions: driver OP DTYPE ROWS VOCAB (OP nothing: the rows
// alone).
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "parallel/thread_scratch.h"

using namespace fg;
using namespace fg::kernels;

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const std::string op = argv[1];
  const DType dtype = std::string(argv[2]) == "float32" ? DType::f32 : DType::bf16;
  const int64_t rows = std::atoll(argv[3]), vocab = std::atoll(argv[4]);
  std::vector<uint32_t> memory(static_cast<size_t>(rows * vocab));
  uint32_t state = 1;
  for (int64_t i = 0; i < rows * vocab; ++i) {
    state = state * 1664525u + 1013904223u;
    const float z = static_cast<float>(state >> 8) * 0x1p-22f;  // 0 to 4
    uint32_t bits;
    std::memcpy(&bits, &z, sizeof bits);
    if (dtype == DType::f32)
      memory[static_cast<size_t>(i)] = bits;
    else
      reinterpret_cast<uint16_t*>(memory.data())[i] = static_cast<uint16_t>(bits >> 16);
  }
  Context context;
  context.parallel_for = [](int64_t n, int64_t chunk, RangeBody body, void* data) {
    for (int64_t at = 0; at < n; at += chunk) body(data, at, at + chunk < n ? at + chunk : n);
  };
  context.scratch = thread_scratch;
  std::vector<int32_t> targets(static_cast<size_t>(rows), 7);
  std::vector<float> logps(targets.size()), entropies(targets.size());
  const float advantage = 1;
  if (op == "nothing") return memory.back() == 1;  // what making the rows costs
  if (op == "selectiveLogp") {
    std::vector<Fault> faults(targets.size());
    SelectiveLogpArgs a;
    a.layout = {rows, 1};
    a.logits = {memory.data(), dtype, vocab, vocab};
    a.targets = targets.data();
    a.logps = logps.data();
    a.entropies = entropies.data();
    a.faults = faults.data();
    return selective_logp(context, a).ok() ? 0 : 1;
  }
  if (op != "grpoLoss") return 2;
  std::vector<TokenRecord> records(targets.size());
  GrpoLossArgs a;
  a.batch.layout = {rows, 1};
  a.batch.advantages = &advantage;
  a.logits = a.grad = {memory.data(), dtype, vocab, vocab};
  a.targets = targets.data();
  a.logps = logps.data();
  a.want_entropy = true;
  a.records = records.data();
  PolicyMetrics metrics;
  return grpo_loss(context, LossParams{}, a, &metrics).ok() ? 0 : 1;
}
