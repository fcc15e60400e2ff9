// Stands in for libnccl.so.2 where there is no GPU: the calls that the engine makes, with NCCL's own names and codes, between processes of one
// machine, on host memory and without streams. As a communicator that does not block, it works in the background and says ncclInProgress
// meanwhile. FAKE_NCCL_FAILS=<rank>: that rank's sums fail.
// FAKE_NCCL_DIES=<rank>: its process is killed in the middle of one.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace {

enum Code { success = 0, internal_error = 3, invalid_argument = 4, invalid_usage = 5, in_progress = 7 };
enum Type { uint8 = 1, int32 = 2, float32 = 7, float64 = 8 };

constexpr size_t kSlot = 1 << 16;  // bytes of a rank's numbers at a time
constexpr int kMostRanks = 8;

struct Shared {
  std::atomic<int> waiting, round;
  alignas(64) char slots[kMostRanks][kSlot];
};

struct Id {
  char bytes[128];
};
struct Config {
  size_t size;
  unsigned magic, version;
  int blocking;
};

size_t size_of(int type) { return type == uint8 ? 1 : type == float64 ? 8 : 4; }

template <class T>
void add(char* to, const char* from, size_t bytes) {
  for (size_t i = 0; i < bytes / sizeof(T); ++i) reinterpret_cast<T*>(to)[i] += reinterpret_cast<const T*>(from)[i];
}

void add_any(int type, char* to, const char* from, size_t bytes) {
  type == float32 ? add<float>(to, from, bytes) : type == float64 ? add<double>(to, from, bytes) : add<int32_t>(to, from, bytes);
}

}  // namespace

struct Comm {
  int rank = 0, size = 0;
  Shared* shared = nullptr;
  std::atomic<bool> aborted{false};
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::function<void()>> queue;  // the first is under way
  std::thread worker;

  bool barrier() {
    const int now = shared->round;
    if (++shared->waiting == size) {
      shared->waiting = 0;
      ++shared->round;
      return true;
    }
    while (shared->round == now) {
      if (aborted) return false;
      usleep(50);
    }
    return true;
  }

  void run() {
    for (;;) {
      std::unique_lock lock(mutex);
      wake.wait(lock, [&] { return aborted || !queue.empty(); });
      if (aborted) return;
      const auto work = queue.front();
      lock.unlock();
      work();
      lock.lock();
      if (!aborted) queue.pop_front();
    }
  }

  Code add_to_queue(std::function<void()> work) {
    const std::lock_guard lock(mutex);
    queue.push_back(std::move(work));
    wake.notify_one();
    return in_progress;
  }

  /// Everybody's numbers into the slots, then `take(offset, bytes)`.
  template <class Take>
  void exchange(char* data, size_t bytes, Take take) {
    for (size_t at = 0; at < bytes; at += kSlot) {
      const size_t n = std::min(kSlot, bytes - at);
      std::memcpy(shared->slots[rank], data + at, n);
      if (!barrier()) return;
      take(data + at, n);
      if (!barrier()) return;
    }
  }
};

namespace {

std::string last_error;

Code sum(void* data, size_t count, int type, int owner, Comm* comm) {
  if (type != int32 && type != float32 && type != float64) return invalid_argument;
  if (const char* r = std::getenv("FAKE_NCCL_FAILS"); r && std::atoi(r) == comm->rank) {
    last_error = "Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 1a000";
    return invalid_usage;
  }
  return comm->add_to_queue([=] {
    if (const char* r = std::getenv("FAKE_NCCL_DIES"); r && std::atoi(r) == comm->rank) kill(getpid(), SIGKILL);
    comm->exchange(static_cast<char*>(data), count * size_of(type), [&](char* to, size_t n) {
      if (owner >= 0 && owner != comm->rank) return;
      std::memcpy(to, comm->shared->slots[0], n);
      for (int r = 1; r < comm->size; ++r) add_any(type, to, comm->shared->slots[r], n);
    });
  });
}

}  // namespace

extern "C" {

int ncclGetVersion(int* version) { return *version = 22999, success; }

int ncclGetUniqueId(Id* id) {
  std::memset(id, 0, sizeof *id);
  std::snprintf(id->bytes, sizeof id->bytes, "/fake-nccl-%d-%ld", getpid(), static_cast<long>(std::rand()));
  return success;
}

int ncclCommInitRankConfig(Comm** comm, int size, Id id, int rank, Config* config) {
  if (config->magic != 0xcafebeef || config->size < 24 || config->version < 21400 || config->blocking != 0 || size > kMostRanks)
    return invalid_argument;
  const int file = shm_open(id.bytes, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) return internal_error;
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return internal_error;
  auto* c = *comm = new Comm;
  c->rank = rank, c->size = size, c->shared = static_cast<Shared*>(memory);
  c->worker = std::thread([c] { c->run(); });
  const std::string name = id.bytes;
  return c->add_to_queue([c, name] {
    if (c->barrier() && c->rank == 0) shm_unlink(name.c_str());
  });
}

int ncclCommGetAsyncError(Comm* comm, int* code) {
  const std::lock_guard lock(comm->mutex);
  return *code = comm->queue.empty() ? success : in_progress, success;
}

int ncclCommAbort(Comm* comm) {
  {
    const std::lock_guard lock(comm->mutex);
    comm->aborted = true;
    comm->wake.notify_one();
  }
  comm->worker.join();
  munmap(comm->shared, sizeof(Shared));
  delete comm;
  return success;
}

int ncclAllReduce(const void*, void* data, size_t count, int type, int, Comm* comm, void*) { return sum(data, count, type, -1, comm); }
int ncclReduce(const void*, void* data, size_t count, int type, int, int owner, Comm* comm, void*) {
  return sum(data, count, type, owner, comm);
}
int ncclBroadcast(const void*, void* data, size_t count, int type, int owner, Comm* comm, void*) {
  return comm->add_to_queue([=] {
    comm->exchange(static_cast<char*>(data), count * size_of(type),
                   [&](char* to, size_t n) { std::memcpy(to, comm->shared->slots[owner], n); });
  });
}

int ncclGroupStart() { return success; }
int ncclGroupEnd() { return success; }
const char* ncclGetErrorString(int code) { return code == invalid_usage ? "invalid usage" : code == invalid_argument ? "invalid argument" : "error"; }
const char* ncclGetLastError(Comm*) { return last_error.c_str(); }
}
