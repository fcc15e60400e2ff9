#pragma once
// NVIDIA's NCCL, found and opened at run time: exchanges between GPUs on the stream that the kernels run on. By its own
// C interface: torch's wrapper of it ends the whole process from a watchdog of its own when a rank is missing, and
// wants the headers of three more libraries. Nothing of CUDA is compiled in: pointers and streams are handed through.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace fg {

/// Of numbers; the values are NCCL's.
enum class NcclType : int { bytes = 1, int32 = 2, float16 = 6, float32 = 7, float64 = 8, bfloat16 = 9 };

struct NcclPlace {
  int rank = 0, world_size = 1;
  /// Rank 0's bytes, on every rank.
  std::function<std::string(const std::string& mine)> from_first;
  /// Called while something is waited for: throws when that makes no sense any more.
  std::function<void()> look;
};

/// One communicator, of the device that is current where it is made. Calls are made in the same order on every rank,
/// from one thread. Throws CodedError: ERR_NO_CUDA where there is no NCCL, ERR_CUDA with NCCL's words; runtime_error
/// where another rank or the network may be to blame; and what `look` throws.
class Nccl {
 public:
  /// Returns when all ranks have joined.
  explicit Nccl(const NcclPlace& place);
  ~Nccl();
  Nccl(const Nccl&) = delete;
  Nccl& operator=(const Nccl&) = delete;

  /// Calls between them are one launch.
  void group_begin();
  void group_end();

  /// In place, queued on `stream` (a cudaStream_t). `sum`: of all ranks, the same bits on each. `sum_at`: on `owner`
  /// alone. `share`: everyone gets the owner's.
  void sum(void* data, int64_t count, NcclType type, void* stream);
  void sum_at(int owner, void* data, int64_t count, NcclType type, void* stream);
  void share(int owner, void* data, int64_t bytes, void* stream);

  /// Whether all calls have been launched; throws what has gone wrong since, on this rank or another.
  bool launched();
  /// Ends what is queued, so that the stream does not wait for a rank that is gone. Nothing works afterwards.
  void abort() noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Which library is used: its file and version, e.g. "libnccl.so.2 (2.31.2)"; throws CodedError ERR_NO_CUDA with the
/// reason where there is none. FUSED_GRPO_NCCL names another file.
std::string nccl_library();

}  // namespace fg
