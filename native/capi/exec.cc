#include "capi/exec.h"

#include <cstring>

#include "capi/check.h"
#include "capi/device.h"
#include "parallel/thread_scratch.h"

namespace fg::capi {
namespace {

constexpr int kMostThreads = 1024;

int threads_of(const char* name, int32_t threads) {
  if (threads < 0 || threads > kMostThreads)
    invalid({name}, "a number from 0 to " + std::to_string(kMostThreads), std::to_string(threads));
  return threads > 0 ? threads : int(std::max(1u, std::thread::hardware_concurrency()));
}

void alone(void*, int64_t n, int64_t chunk, RangeBody body, void* state) {
  for (int64_t i = 0; i < n; i += chunk) body(state, i, std::min(n, i + chunk));
}

void on_pool(void* pool, int64_t n, int64_t chunk, RangeBody body, void* state) {
  static_cast<Pool*>(pool)->run(n, chunk, body, state);
}

}  // namespace

Runner::Runner(const fg_exec* exec) {
  if (!exec) return;
  const fg_exec e = take(exec, "exec");
  reserved("exec.reserved", e.reserved);
  if (e.pool) {
    given_ = &e.pool->threads;
  } else {
    wanted_ = threads_of("exec.threads", e.threads);
  }
}

Context Runner::context() const {
  Context c{};
  c.team_parallel_for = alone;
  c.scratch = thread_scratch;
  if (!given_ && wanted_ > 1) own_ = std::make_unique<Pool>(wanted_);
  if (given_ || own_) c.team_parallel_for = on_pool, c.team = given_ ? given_ : &*own_;
  return c;
}

Runner Runner::on_gpu(void* stream) {
  device::require();
  Runner r;
  r.gpu_ = true, r.stream_ = stream;
  return r;
}

const void* Runner::copy(const void* data, size_t bytes) {
  if (!gpu_ || !data || bytes == 0) return data;
  copies_.emplace_back((bytes + sizeof(double) - 1) / sizeof(double));
  read(copies_.back().data(), data, bytes);
  return copies_.back().data();
}

void Runner::read(void* to, const void* from, size_t bytes) const {
  gpu_ ? device::to_host(to, from, bytes, stream_) : void(std::memcpy(to, from, bytes));
}

size_t Runner::scratch_bytes(size_t on_cpu, int64_t rows) const { return gpu_ ? device::scratch_bytes(rows) : on_cpu; }

}  // namespace fg::capi

extern "C" {

fg_status fg_pool_create(int32_t threads, fg_pool** pool, fg_error* error) {
  return fg::capi::guarded(error, [&] {
    if (!pool) fg::capi::invalid({"pool"}, "a pointer to the pool's pointer", "NULL");
    *pool = new fg_pool{fg::Pool(fg::capi::threads_of("threads", threads))};
  });
}

int32_t fg_pool_threads(const fg_pool* pool) { return pool ? pool->threads.threads() : 0; }

void fg_pool_destroy(fg_pool* pool) { delete pool; }
}
