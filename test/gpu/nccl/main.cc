// The engine's exchanges between GPUs (native/torch/nccl) on the GPUs of this machine, each in a process of its own: nccl-check <gpus>.
// With one GPU: a group of one, which still goes through all of NCCL's calls. The last line is `nccl: N passed, N failed`.
#include <cuda_runtime_api.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "torch/nccl.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Shared {
  std::atomic<int> ids;  // how many groups rank 0 has opened
  char id[128];
  std::atomic<int> passed, failed;
};

void cuda(cudaError_t e, const char* what) {
  if (e != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(e));
}
#define CUDA(call) cuda(call, #call)

struct Member {
  Shared& shared;
  int rank, size;
  cudaStream_t stream = nullptr;
  float* data = nullptr;
  static constexpr int64_t kCount = 1 << 20;
  std::vector<float> host = std::vector<float>(kCount);
  double patience = 60;  // seconds

  void expect(bool held, const char* what) {
    held ? ++shared.passed : ++shared.failed;
    if (!held) std::printf("nccl: rank %d: %s: not so\n", rank, what);
  }

  void fill(float value) {
    for (int64_t i = 0; i < kCount; ++i) host[i] = value + static_cast<float>(i % 17);
    CUDA(cudaMemcpyAsync(data, host.data(), kCount * sizeof(float), cudaMemcpyHostToDevice, stream));
    CUDA(cudaStreamSynchronize(stream));
  }

  bool holds(float value, float factor) {
    CUDA(cudaMemcpyAsync(host.data(), data, kCount * sizeof(float), cudaMemcpyDeviceToHost, stream));
    CUDA(cudaStreamSynchronize(stream));
    for (int64_t i = 0; i < kCount; ++i)
      if (host[i] != value + factor * static_cast<float>(i % 17)) return false;
    return true;
  }

  fg::NcclPlace place(int number) {
    fg::NcclPlace p;
    p.rank = rank;
    p.world_size = size;
    p.from_first = [this, number](const std::string& mine) {
      if (rank == 0) std::memcpy(shared.id, mine.data(), sizeof shared.id), shared.ids = number;
      while (shared.ids < number) usleep(1000);
      return std::string(shared.id, sizeof shared.id);
    };
    const auto end = Clock::now() + std::chrono::duration<double>(patience);
    p.look = [end] {
      if (Clock::now() > end) throw std::runtime_error("nobody came");
    };
    return p;
  }

  bool finished(fg::Nccl& nccl, double seconds) {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (Clock::now() < end) {
      if (nccl.launched() && cudaStreamQuery(stream) == cudaSuccess) return true;
      usleep(200);
    }
    return false;
  }

  void exchange() {
    fg::Nccl nccl(place(1));
    const float ranks = static_cast<float>(size), total = ranks * (ranks + 1) / 2;
    fill(static_cast<float>(rank + 1));
    nccl.group_begin();
    nccl.sum(data, kCount / 2, fg::NcclType::float32, stream);
    nccl.sum(data + kCount / 2, kCount - kCount / 2, fg::NcclType::float32, stream);
    nccl.group_end();
    expect(finished(nccl, 30), "sums are made");
    expect(holds(total, ranks), "sums");
    fill(static_cast<float>(rank + 1));
    nccl.sum_at(size - 1, data, kCount, fg::NcclType::float32, stream);
    expect(finished(nccl, 30), "a sum of one owner is made");
    expect(rank != size - 1 || holds(total, ranks), "sum of one owner");
    fill(static_cast<float>(rank + 1));
    nccl.share(0, data, kCount * static_cast<int64_t>(sizeof(float)), stream);
    expect(finished(nccl, 30), "a copy is made");
    expect(holds(1, 1), "copy");
  }

  /// The last rank does not come to the second sum: the others give up, and their streams are free again.
  void lose() {
    patience = 10;
    fg::Nccl nccl(place(2));
    fill(1);
    nccl.sum(data, kCount, fg::NcclType::float32, stream);
    expect(finished(nccl, 30), "the first sum is made");
    if (rank == size - 1) {
      usleep(3'000'000);
      return;
    }
    bool waits = true;
    try {
      nccl.sum(data, kCount, fg::NcclType::float32, stream);
      waits = !finished(nccl, 1);
    } catch (const std::runtime_error&) {  // not even launched: `look` has given up
    }
    expect(waits, "a sum waits for the rank that is missing");
    nccl.abort();
    expect(cudaStreamSynchronize(stream) == cudaSuccess, "the stream is free");
  }

  int run() {
    try {
      CUDA(cudaSetDevice(rank));
      CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
      CUDA(cudaMalloc(reinterpret_cast<void**>(&data), kCount * sizeof(float)));
      exchange();
      if (size > 1) lose();
      return 0;
    } catch (const std::exception& e) {
      std::printf("nccl: rank %d: %s\n", rank, e.what());
      ++shared.failed;
      return 1;
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  const int gpus = argc > 1 ? std::atoi(argv[1]) : 1;
  try {
    std::printf("nccl: %s, %d GPU(s)\n", fg::nccl_library().c_str(), gpus);
  } catch (const std::exception& e) {
    std::printf("nccl: skipped, %s\nnccl: 0 passed, 0 failed\n", e.what());
    return 0;
  }
  std::fflush(stdout);
  auto* shared = static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (shared == MAP_FAILED) return 2;
  int bad = 0;
  for (int r = 0; r < gpus; ++r)  // no CUDA call before: its state does not survive a fork
    if (fork() == 0) {
      const int code = Member{*shared, r, gpus}.run();
      std::fflush(stdout);
      _exit(code);
    }
  for (int r = 0, status = 0; r < gpus; ++r) {
    wait(&status);
    if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && shared->failed == 0)) ++bad;
  }
  std::printf("nccl: %d passed, %d failed\n", shared->passed.load(), shared->failed + bad);
  return shared->failed + bad > 0 ? 1 : 0;
}
