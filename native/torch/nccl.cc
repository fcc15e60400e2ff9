#include "torch/nccl.h"

#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "torch/error.h"

namespace fg {
namespace {

// What nccl.h says, of NCCL 2.14 (the first with communicators that do not block) and of every later one.
using Comm = struct Opaque*;
struct UniqueId {
  char bytes[128];
};
/// The beginning of ncclConfig_t: NCCL fills in the rest when `size` and `version` say that there is no more.
struct Config {
  size_t size = sizeof(Config);
  unsigned int magic = 0xcafebeef;
  unsigned int version = 21400;
  int blocking = 0;
};
constexpr int kSuccess = 0, kSystemError = 2, kRemoteError = 6, kInProgress = 7, kSum = 0;
constexpr int kLeastVersion = 21400;

struct Library {
  std::string name;
  int version = 0;
  int (*GetVersion)(int*);
  int (*GetUniqueId)(UniqueId*);
  int (*CommInitRankConfig)(Comm*, int, UniqueId, int, Config*);
  int (*CommGetAsyncError)(Comm, int*);
  int (*CommAbort)(Comm);
  int (*AllReduce)(const void*, void*, size_t, int, int, Comm, void*);
  int (*Reduce)(const void*, void*, size_t, int, int, int, Comm, void*);
  int (*Broadcast)(const void*, void*, size_t, int, int, Comm, void*);
  int (*GroupStart)();
  int (*GroupEnd)();
  const char* (*GetErrorString)(int);
  const char* (*GetLastError)(Comm);
};

[[noreturn]] void fail(const std::string& message) { throw CodedError("ERR_CUDA", message); }

template <class Fn>
void find(void* handle, const Library& library, const char* name, Fn& to) {
  to = reinterpret_cast<Fn>(dlsym(handle, name));
  if (!to) fail(library.name + " has no " + name + ": is it NCCL, of version 2.14 or newer?");
}

Library open_library() {
  Library l;
  const char* named = std::getenv("FUSED_GRPO_NCCL");
  l.name = named && *named ? named : "libnccl.so.2";
  void* handle = dlopen(l.name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* why = dlerror();
    throw CodedError(
        "ERR_NO_CUDA",
        "NCCL, which GPUs of several processes exchange numbers by, cannot be loaded: " + std::string(why ? why : "?") +
            ". It comes with `pip install nvidia-nccl-cu13`; FUSED_GRPO_NCCL may name its libnccl.so.2");
  }
  find(handle, l, "ncclGetVersion", l.GetVersion);
  if (l.GetVersion(&l.version) != kSuccess || l.version < kLeastVersion)
    fail(l.name + " is NCCL of version code " + std::to_string(l.version) + "; 2.14 or newer is needed");
  find(handle, l, "ncclGetUniqueId", l.GetUniqueId);
  find(handle, l, "ncclCommInitRankConfig", l.CommInitRankConfig);
  find(handle, l, "ncclCommGetAsyncError", l.CommGetAsyncError);
  find(handle, l, "ncclCommAbort", l.CommAbort);
  find(handle, l, "ncclAllReduce", l.AllReduce);
  find(handle, l, "ncclReduce", l.Reduce);
  find(handle, l, "ncclBroadcast", l.Broadcast);
  find(handle, l, "ncclGroupStart", l.GroupStart);
  find(handle, l, "ncclGroupEnd", l.GroupEnd);
  find(handle, l, "ncclGetErrorString", l.GetErrorString);
  find(handle, l, "ncclGetLastError", l.GetLastError);
  return l;
}

/// Opened once.
const Library& library() {
  static const Library opened = open_library();
  return opened;
}

}  // namespace

struct Nccl::State {
  const Library& nccl = library();
  NcclPlace place;
  Comm comm = nullptr;

  [[noreturn]] void failed(int code, const char* call) {
    const char* more = nccl.GetLastError(comm);
    const std::string words = std::string("NCCL: ") + nccl.GetErrorString(code) + " (" + call + ")" +
                              (more && *more ? std::string(": ") + more : "");
    if (code == kSystemError || code == kRemoteError) throw std::runtime_error(words);
    fail(words);
  }

  /// A call that does not block may go on in the background.
  void must(int code, const char* call) {
    if (code == kInProgress) code = settle(call);
    if (code != kSuccess) failed(code, call);
  }

  int settle(const char* call) {
    for (;;) {
      int code = kSuccess;
      if (const int asked = nccl.CommGetAsyncError(comm, &code); asked != kSuccess) failed(asked, call);
      if (code != kInProgress) return code;
      place.look();
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }

  /// Between group_begin() and group_end() nothing has been launched yet.
  void queued(int code, const char* call) {
    if (code != kSuccess && code != kInProgress) failed(code, call);
    if (depth == 0) must(code, call);
  }

  int depth = 0;
};

Nccl::Nccl(const NcclPlace& place) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.place = place;
  UniqueId id{};
  std::string mine;
  if (place.rank == 0) {
    s.must(s.nccl.GetUniqueId(&id), "ncclGetUniqueId");
    mine.assign(id.bytes, sizeof id.bytes);
  }
  const std::string first = place.from_first(mine);
  if (first.size() != sizeof id.bytes)
    fail("NCCL: rank 0 said where to meet in " + std::to_string(first.size()) + " bytes");
  std::memcpy(id.bytes, first.data(), first.size());
  Config config;
  try {
    s.must(s.nccl.CommInitRankConfig(&s.comm, place.world_size, id, place.rank, &config), "ncclCommInitRankConfig");
  } catch (...) {
    abort();
    throw;
  }
}

// Given up rather than finalised, which would wait for ranks that leave later or never: what was queued has been waited
// for by whoever wanted it.
Nccl::~Nccl() { abort(); }

void Nccl::group_begin() {
  state_->queued(state_->nccl.GroupStart(), "ncclGroupStart");
  ++state_->depth;
}

void Nccl::group_end() {
  --state_->depth;
  state_->must(state_->nccl.GroupEnd(), "ncclGroupEnd");
}

void Nccl::sum(void* data, int64_t count, NcclType type, void* stream) {
  State& s = *state_;
  s.queued(s.nccl.AllReduce(data, data, static_cast<size_t>(count), static_cast<int>(type), kSum, s.comm, stream),
           "ncclAllReduce");
}

void Nccl::sum_at(int owner, void* data, int64_t count, NcclType type, void* stream) {
  State& s = *state_;
  s.queued(s.nccl.Reduce(data, data, static_cast<size_t>(count), static_cast<int>(type), kSum, owner, s.comm, stream),
           "ncclReduce");
}

void Nccl::share(int owner, void* data, int64_t bytes, void* stream) {
  State& s = *state_;
  s.queued(s.nccl.Broadcast(data, data, static_cast<size_t>(bytes), static_cast<int>(NcclType::bytes), owner, s.comm,
                            stream),
           "ncclBroadcast");
}

bool Nccl::launched() {
  State& s = *state_;
  int code = kSuccess;
  const int asked = s.nccl.CommGetAsyncError(s.comm, &code);
  if (asked != kSuccess) code = asked;
  if (code != kSuccess && code != kInProgress) s.failed(code, "ncclCommGetAsyncError");
  return code == kSuccess;
}

void Nccl::abort() noexcept {
  State& s = *state_;
  if (s.comm) s.nccl.CommAbort(s.comm);
  s.comm = nullptr;
}

std::string nccl_library() {
  const Library& l = library();
  const int v = l.version;
  return l.name + " (" + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." +
         std::to_string(v % 100) + ")";
}

}  // namespace fg
