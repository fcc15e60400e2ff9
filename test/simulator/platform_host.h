#pragma once
// platform.h on the host: the same names as platform_nvidia.h, executed by the simulator. Global memory is reached only
// through the accessors here (a raw dereference faults), shared memory only through Shared<T>.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/cpu/convert.h"
#include "kernels/cuda/launch.h"
#include "simulator/hooks.h"

#define FG_DEVICE inline
#define FG_KERNEL(max_threads, min_blocks) void
#define FG_SHARED(T, name, count)   \
  static const char name##_tag = 0; \
  const ::fg::cuda::Shared<T> name(::fg::sim::static_shared_at(&name##_tag, sizeof(T) * (count), alignof(T)))
#define FG_UNROLL
#define FG_HAS_CLUSTERS 1

namespace fg::cuda {

enum class Cache { normal, streaming, keep };

struct alignas(16) Vec16 {
  uint32_t x, y, z, w;
};

/// Opaque: its state lies beside the simulated memory.
struct alignas(8) Barrier {
  uint64_t opaque;
};

/// What s[i] is. Only usable on the spot: `auto v = s[i]` does not compile further, because on the GPU it would be a
/// value and here a second access.
template <class T>
class SharedElement {
 public:
  explicit SharedElement(sim::SharedAt at) : at_(at) {}
  operator T() && { return get(); }
  T operator=(T v) && { return put(v); }
  T operator=(SharedElement&& o) && { return put(o.get()); }
  T operator+=(T v) && { return put(T(get() + v)); }
  T operator-=(T v) && { return put(T(get() - v)); }
  T operator|=(T v) && { return put(T(get() | v)); }

 private:
  T get() const {
    T v;
    sim::shared_read(at_, &v, sizeof v);
    return v;
  }
  T put(T v) const {
    sim::shared_write(at_, &v, sizeof v);
    return v;
  }
  sim::SharedAt at_;
};

template <class T>
class Shared {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Shared() = default;
  explicit Shared(sim::SharedAt at) : at_(at) {}
  SharedElement<T> operator[](int64_t i) const { return SharedElement<T>((*this + i).at_); }
  SharedElement<T> operator*() const { return SharedElement<T>(at_); }
  Shared operator+(int64_t n) const {
    Shared s = *this;
    s.at_.offset = uint32_t(int64_t(at_.offset) + n * int64_t(sizeof(T)));
    return s;
  }
  Shared operator-(int64_t n) const { return *this + -n; }
  Shared& operator+=(int64_t n) { return *this = *this + n; }
  Shared& operator-=(int64_t n) { return *this = *this + -n; }
  int64_t operator-(Shared o) const { return (int64_t(at_.offset) - int64_t(o.at_.offset)) / int64_t(sizeof(T)); }
  bool operator==(Shared o) const { return at_.offset == o.at_.offset; }
  auto operator<=>(Shared o) const { return at_.offset <=> o.at_.offset; }
  sim::SharedAt at() const { return at_; }

 private:
  sim::SharedAt at_;
};

FG_DEVICE int thread() { return sim::here.thread; }
FG_DEVICE int threads() { return sim::here.threads; }
FG_DEVICE int64_t block() { return sim::here.block; }
FG_DEVICE int64_t blocks() { return sim::here.blocks; }
FG_DEVICE int lane() { return sim::here.lane; }
FG_DEVICE int warp() { return sim::here.warp; }
FG_DEVICE int cluster_rank() { return sim::here.rank; }
FG_DEVICE int cluster_size() { return sim::here.cluster; }

// ---- global memory
template <class T>
FG_DEVICE std::remove_cv_t<T> load(const T* p) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::remove_cv_t<T> v;
  if (reinterpret_cast<uintptr_t>(p) % alignof(T) != 0) sim::fail("misaligned access", "load");
  sim::global_read(p, &v, sizeof v);
  return v;
}
/// Counted once a warp, which is what the hardware does.
template <class T>
FG_DEVICE T load_same(const T* p) {
  T v;
  if (reinterpret_cast<uintptr_t>(p) % alignof(T) != 0) sim::fail("misaligned access", "load_same");
  sim::global_read(p, &v, sizeof v, lane() == 0);
  return v;
}
template <class T>
FG_DEVICE void store(T* p, T v) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (reinterpret_cast<uintptr_t>(p) % alignof(T) != 0) sim::fail("misaligned access", "store");
  sim::global_write(p, &v, sizeof v);
}
FG_DEVICE Vec16 load16(const void* p, Cache = Cache::normal) { return load(static_cast<const Vec16*>(p)); }
FG_DEVICE void store16(void* p, Vec16 v, Cache = Cache::normal) { store(static_cast<Vec16*>(p), v); }
FG_DEVICE uint32_t atomic_increment(uint32_t* p) { return sim::global_increment(p); }

// ---- block and warp
FG_DEVICE void sync() { sim::block_sync(); }
FG_DEVICE void sync_warp() { sim::warp_rendezvous(sim::WarpOp::sync_warp, 0, 0); }
FG_DEVICE void named_barrier(int id, int count) { sim::named_sync(id, count); }
template <class T>
FG_DEVICE T exchange(sim::WarpOp op, T v, int argument) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "what __shfl_sync moves");
  uint64_t bits = 0;
  std::memcpy(&bits, &v, sizeof v);
  bits = sim::warp_rendezvous(op, bits, argument);
  std::memcpy(&v, &bits, sizeof v);
  return v;
}
template <class T>
FG_DEVICE T shuffle(T v, int from) {
  return exchange(sim::WarpOp::shuffle, v, from);
}
template <class T>
FG_DEVICE T shuffle_xor(T v, int mask) {
  return exchange(sim::WarpOp::shuffle_xor, v, mask);
}
FG_DEVICE int count_bits(uint32_t v) { return __builtin_popcount(v); }
FG_DEVICE uint32_t ballot(bool b) { return uint32_t(sim::warp_rendezvous(sim::WarpOp::ballot, 0, b)); }

// ---- shared memory
template <class T>
FG_DEVICE Shared<T> dynamic_shared(int bytes = 0) {
  return Shared<T>(sim::dynamic_shared_at(size_t(bytes), alignof(T)));
}
FG_DEVICE uint32_t atomic_add(Shared<uint32_t> p, uint32_t v) {
  return uint32_t(sim::shared_atomic_add(p.at(), v, sizeof v));
}
FG_DEVICE uint64_t atomic_add(Shared<uint64_t> p, uint64_t v) { return sim::shared_atomic_add(p.at(), v, sizeof v); }

// ---- clusters and asynchronous copies
FG_DEVICE void cluster_sync() { sim::cluster_sync_all(); }
FG_DEVICE void send(Vec16 v, Shared<Vec16> slot, int rank, Shared<Barrier> signal) {
  sim::send16(&v, slot.at(), rank, signal.at());
}
template <class T>
FG_DEVICE T cluster_load(Shared<T> s, int rank) {
  T v;
  sim::shared_read_remote(s.at(), rank, &v, sizeof v);
  return v;
}
FG_DEVICE void barrier_init(Shared<Barrier> b, int arrivals) { sim::mbarrier_init(b.at(), arrivals); }
FG_DEVICE void publish_barriers() { sim::mbarrier_publish(); }
FG_DEVICE void barrier_expect(Shared<Barrier> b, uint32_t bytes) { sim::mbarrier_arrive(b.at(), bytes, "expect"); }
FG_DEVICE void barrier_arrive(Shared<Barrier> b) { sim::mbarrier_arrive(b.at(), 0, "arrive"); }
FG_DEVICE void barrier_wait(Shared<Barrier> b, uint32_t parity) { sim::mbarrier_wait(b.at(), parity); }
template <class T>
FG_DEVICE void bulk_load(Shared<T> to, const void* from, uint32_t bytes, Shared<Barrier> b) {
  sim::bulk_copy(to.at(), from, bytes, b.at());
}
FG_DEVICE void proxy_fence() { sim::async_proxy_fence(); }

// ---- numbers
FG_DEVICE float exp2_fast(float x) { return sim::approximate_exp2(x); }
FG_DEVICE float bits_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
FG_DEVICE uint32_t float_as_bits(float v) { return std::bit_cast<uint32_t>(v); }
FG_DEVICE float bf16_low(uint32_t pair) { return bits_as_float(pair << 16); }
FG_DEVICE float bf16_high(uint32_t pair) { return bits_as_float(pair & 0xFFFF0000u); }
FG_DEVICE float f16_low(uint32_t pair) { return kernels::f16_to_float(uint16_t(pair)); }
FG_DEVICE float f16_high(uint32_t pair) { return kernels::f16_to_float(uint16_t(pair >> 16)); }
FG_DEVICE uint32_t pack_bf16(float low, float high) {
  return kernels::float_to_bf16(low) | uint32_t(kernels::float_to_bf16(high)) << 16;
}
FG_DEVICE uint32_t pack_f16(float low, float high) {
  return kernels::float_to_f16(low) | uint32_t(kernels::float_to_f16(high)) << 16;
}

// ---- launching
template <class Args>
Launch launch(void (*kernel)(Args), const char* name, const char* file, int line, const Shape& s, void*,
              const Args& args) {
  const auto entry = [](const void* k, const void* a) {
    (*static_cast<void (*const*)(Args)>(k))(*static_cast<const Args*>(a));
  };
  return {sim::run_grid(name, s, entry, &kernel, &args), name, file, line};
}

template <class Args>
int64_t resident_clusters(void (*)(Args), const Shape& s) {
  return sim::resident(s);
}

}  // namespace fg::cuda
