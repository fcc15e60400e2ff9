#pragma once
// What a kernel may use of the machine, once for the GPU and once for the host simulator. Kernels (*.cu) include this
// and nothing of CUDA; they touch global memory only through load/store here, and shared memory only through Shared<T>.
//
//   coordinates   thread() threads() block() blocks() lane() warp() cluster_rank() cluster_size()
//   global        load(p) store(p, v)               any trivially copyable T, naturally aligned
//                 load_same(p)                      where all lanes of a warp read one address: one access
//                 load16(p, Cache) store16(p, v, Cache)   16 aligned bytes as Vec16
//                 atomic_increment(p)               uint32, acquire + release at device scope; returns the old value
//   block         sync() sync_warp() named_barrier(id, threads) shuffle(v, lane) shuffle_xor(v, mask) ballot(bool)
//                 count_bits(uint32)
//                 (whole warps always take part; blocks are whole warps)
//   shared        FG_SHARED(T, name, count)         a static array of the block, uninitialised
//                 dynamic_shared<T>(byte offset)    into the launch's dynamic bytes (128-byte aligned base)
//                 Shared<T>: s[i], s + n; atomic_add(s + i, uint32 | uint64) returns the old value, relaxed
//   cluster       cluster_sync(); send(value, Shared<Vec16> slot, rank, Shared<Barrier> signal): 16 bytes into another
//                 block's slot; completes 16 bytes on that block's `signal`; cluster_load(Shared<T> s, rank)
//   asynchronous  barrier_init(b, arrivals) then publish_barriers() then sync()/cluster_sync()
//                 barrier_expect(b, bytes): one arrival that also announces bytes; barrier_arrive(b)
//                 barrier_wait(b, parity): until the phase of that parity has completed
//                 bulk_load(Shared<T> to, from, bytes, b): 16-byte aligned and sized copy, completes `bytes` on b
//                 proxy_fence(): before a bulk copy reads or overwrites shared memory that threads have WRITTEN
//   numbers       exp2_fast(x): 2^x, relative error 2^-22, 0 for -inf; widen_low/high, pack for the 16-bit formats
#if defined(__CUDACC__)
#include "kernels/cuda/platform_nvidia.h"
#else
#include "simulator/platform_host.h"
#endif
