#pragma once
// platform.h on the GPU. Everything that needs PTX is in this file.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "kernels/cuda/launch.h"

#define FG_DEVICE __device__ __forceinline__
#define FG_KERNEL(max_threads, min_blocks) __global__ void __launch_bounds__(max_threads, min_blocks)
#define FG_SHARED(T, name, count) __shared__ T name[count]
#define FG_UNROLL _Pragma("unroll")
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define FG_HAS_CLUSTERS 1
#endif

namespace fg::cuda {

enum class Cache { normal, streaming, keep };  // streaming: used once; keep: will be read again soon

using Vec16 = uint4;
using Barrier = uint64_t;
template <class T>
using Shared = T*;

FG_DEVICE int thread() { return int(threadIdx.x); }
FG_DEVICE int threads() { return int(blockDim.x); }
FG_DEVICE int64_t block() { return blockIdx.x; }
FG_DEVICE int64_t blocks() { return gridDim.x; }
FG_DEVICE int lane() { return int(threadIdx.x & 31); }
FG_DEVICE int warp() { return int(threadIdx.x >> 5); }

// ---- global memory
template <class T>
FG_DEVICE T load(const T* p) {
  return *p;
}
template <class T>
FG_DEVICE T load_same(const T* p) {
  return *p;
}
template <class T>
FG_DEVICE void store(T* p, T v) {
  *p = v;
}
FG_DEVICE Vec16 load16(const void* p, Cache cache = Cache::normal) {
  Vec16 v;
  if (cache == Cache::streaming)
    asm volatile("ld.global.cs.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
  else if (cache == Cache::keep)
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
  else
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
  return v;
}
FG_DEVICE void store16(void* p, Vec16 v, Cache cache = Cache::normal) {
  if (cache == Cache::streaming)
    asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
  else
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}
/// What the block's threads stored before the call is seen by whoever reads a larger value later (the callers sync()).
FG_DEVICE uint32_t atomic_increment(uint32_t* p) {
  __threadfence();
  const uint32_t old = atomicAdd(p, 1u);
  __threadfence();
  return old;
}

// ---- block and warp
FG_DEVICE void sync() { __syncthreads(); }
FG_DEVICE void sync_warp() { __syncwarp(); }
FG_DEVICE void named_barrier(int id, int count) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory"); }
template <class T>
FG_DEVICE T shuffle(T v, int from) {
  return __shfl_sync(0xFFFFFFFFu, v, from);
}
template <class T>
FG_DEVICE T shuffle_xor(T v, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, v, mask);
}
FG_DEVICE int count_bits(uint32_t v) { return __popc(v); }
FG_DEVICE uint32_t ballot(bool b) { return __ballot_sync(0xFFFFFFFFu, b); }

// ---- shared memory
template <class T>
FG_DEVICE Shared<T> dynamic_shared(int bytes = 0) {
  extern __shared__ __align__(128) unsigned char fg_dynamic_shared[];
  return reinterpret_cast<T*>(fg_dynamic_shared + bytes);
}
FG_DEVICE uint32_t address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }
FG_DEVICE uint32_t atomic_add(Shared<uint32_t> p, uint32_t v) { return atomicAdd(p, v); }
FG_DEVICE uint64_t atomic_add(Shared<uint64_t> p, uint64_t v) {
  return atomicAdd(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(v));
}

#ifdef FG_HAS_CLUSTERS
// ---- clusters and asynchronous copies (sm_90 and newer)
FG_DEVICE int cluster_rank() {
  uint32_t v;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(v));
  return int(v);
}
FG_DEVICE int cluster_size() {
  uint32_t v;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(v));
  return int(v);
}
FG_DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
FG_DEVICE uint32_t remote(uint32_t local, int rank) {
  uint32_t v;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(v) : "r"(local), "r"(rank));
  return v;
}
FG_DEVICE void send(Vec16 v, Shared<Vec16> slot, int rank, Shared<Barrier> signal) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                   remote(address(slot), rank)),
               "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(remote(address(signal), rank))
               : "memory");
}
/// Reads a 4-byte value from another block's shared memory.
template <class T>
FG_DEVICE T cluster_load(Shared<T> s, int rank) {
  static_assert(sizeof(T) == 4);
  uint32_t v;
  asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(v) : "r"(remote(address(s), rank)) : "memory");
  T out;
  memcpy(&out, &v, 4);
  return out;
}
FG_DEVICE void barrier_init(Shared<Barrier> b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(b)), "r"(arrivals) : "memory");
}
/// Makes initialised barriers visible to the cluster and to asynchronous copies.
FG_DEVICE void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
}
FG_DEVICE void barrier_expect(Shared<Barrier> b, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(b)), "r"(bytes) : "memory");
}
FG_DEVICE void barrier_arrive(Shared<Barrier> b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address(b)) : "memory");
}
/// Acquires at cluster scope: what peers sent is visible.
FG_DEVICE void barrier_wait(Shared<Barrier> b, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\nwait:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra wait;\n}" ::"r"(address(b)),
      "r"(parity)
      : "memory");
}
FG_DEVICE void bulk_load(void* to, const void* from, uint32_t bytes, Shared<Barrier> b) {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(address(to)),
      "l"(from), "r"(bytes), "r"(address(b)), "l"(policy)
      : "memory");
}
FG_DEVICE void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#endif

// ---- numbers
FG_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FG_DEVICE float bits_as_float(uint32_t bits) { return __uint_as_float(bits); }
FG_DEVICE uint32_t float_as_bits(float v) { return __float_as_uint(v); }
FG_DEVICE float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
FG_DEVICE float bf16_high(uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); }
FG_DEVICE float f16_low(uint32_t pair) { return __half2float(__ushort_as_half(uint16_t(pair))); }
FG_DEVICE float f16_high(uint32_t pair) { return __half2float(__ushort_as_half(uint16_t(pair >> 16))); }
/// To nearest, ties to even.
FG_DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
FG_DEVICE uint32_t pack_f16(float low, float high) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// ---- launching
/// `attribute` must live as long as the result.
inline cudaLaunchConfig_t launch_config(const Shape& s, void* stream, cudaLaunchAttribute (&attribute)[1]) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(s.blocks));
  config.blockDim = dim3(unsigned(s.threads));
  config.dynamicSmemBytes = s.shared;
  config.stream = static_cast<cudaStream_t>(stream);
  if (s.cluster > 1) {
    attribute[0].id = cudaLaunchAttributeClusterDimension;
    attribute[0].val.clusterDim = {unsigned(s.cluster), 1, 1};
    config.attrs = attribute;
    config.numAttrs = 1;
  }
  return config;
}

template <class Args>
Launch launch(void (*kernel)(Args), const char* name, const char* file, int line, const Shape& s, void* stream,
              const Args& args) {
  cudaError_t e = cudaSuccess;
  if (s.shared > 48 * 1024)
    e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(s.shared));
  cudaLaunchAttribute attribute[1];
  const cudaLaunchConfig_t config = launch_config(s, stream, attribute);
  if (e == cudaSuccess) e = cudaLaunchKernelEx(&config, kernel, args);
  if (e != cudaSuccess) (void)cudaGetLastError();  // it is reported here; do not leave it for torch to find
  return {int(e), name, file, line};
}

/// What the run-time library says, or 1.
template <class Args>
int64_t count_resident_clusters(void (*kernel)(Args), const Shape& s) {
  if (s.shared > 48 * 1024) cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(s.shared));
  int count = 0;
  if (s.cluster == 1) {
    if (cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, kernel, s.threads, s.shared) != cudaSuccess) count = 0;
    count *= current_device().multiprocessors;
  } else {
    cudaLaunchAttribute attribute[1];
    Shape one = s;
    one.blocks = s.cluster;
    const cudaLaunchConfig_t config = launch_config(one, nullptr, attribute);
    if (cudaOccupancyMaxActiveClusters(&count, kernel, &config) != cudaSuccess) count = 0;
  }
  (void)cudaGetLastError();
  return count > 0 ? count : 1;
}

/// Asked once for each kernel and shape: the question costs more than a launch.
template <class Args>
int64_t resident_clusters(void (*kernel)(Args), const Shape& s) {
  struct Known {
    void (*kernel)(Args);
    int device, threads, cluster;
    size_t shared;
    int64_t count;
  };
  constexpr int kKnown = 32;
  static thread_local Known known[kKnown] = {};
  static thread_local int next = 0;
  int device = 0;
  (void)cudaGetDevice(&device);
  for (const Known& k : known)
    if (k.kernel == kernel && k.device == device && k.threads == s.threads && k.cluster == s.cluster &&
        k.shared == s.shared)
      return k.count;
  const int64_t count = count_resident_clusters(kernel, s);
  known[next++ % kKnown] = {kernel, device, s.threads, s.cluster, s.shared, count};
  return count;
}

}  // namespace fg::cuda
