// One cluster of blocks per row (sm_90 and newer): bulk copies bring each block's slice of the row into shared memory,
// threads take it into registers, and the copy of the next row is under way before the first sum is formed. One
// exchange of 16 bytes between blocks, merged in rank order. The row is read once and its gradient written once.
//
// What is dangerous here: the landing buffer is overwritten by the next copy as soon as it is armed (after the sync
// that follows the pull); an exchange slot is used again two rows later, which is safe because a block sends row i + 2
// only after it has had every peer's row i + 1, sent after that peer's warp 0 read row i; the two exchange barriers
// alternate for the same reason.
#include "kernels/cuda/row_format.h"
#include "kernels/cuda/row_step.h"
#include "kernels/cuda/table.h"

namespace fg::cuda {
namespace {

#ifdef FG_HAS_CLUSTERS
constexpr int kMaxCluster = 8;

/// A row that will be worked on, and what of it is loaded early.
template <DType D>
struct Job {
  using E = typename Format<D>::Element;
  int64_t row = -1;  // -1: there is none
  RowPlan plan;
  const E* data = nullptr;
  float single = 0;  // head and tail elements belong to rank 0, one a thread
  float target = 0;  // the target's logit
};

/// This block's part of a row; formed anew where it is needed, because registers are short.
template <DType D>
struct Slice {
  RowSpan<D> span;
  int begin = 0, count = 0;  // vectors of this block

  FG_DEVICE Slice(const Job<D>& job, int vocab) : span(job.data, vocab) {
    const int each = (span.vectors + cluster_size() - 1) / cluster_size();
    begin = cluster_rank() * each < span.vectors ? cluster_rank() * each : span.vectors;
    count = span.vectors - begin < each ? span.vectors - begin : each;
  }
  FG_DEVICE bool has_single() const { return cluster_rank() == 0 && thread() < span.singles(); }
};

template <DType D>
struct Cluster {
  using F = Format<D>;
  using E = typename F::Element;
  const RowTask& t;
  Shared<Vec16> buffer;
  Shared<Barrier> landed;

  FG_DEVICE E* out(const RowPlan& plan) const { return static_cast<E*>(t.grad.data) + plan.grad; }

  /// Zeroes this block's share of a row of the gradient.
  FG_DEVICE void zero(const RowPlan& plan) const {
    E* const to = out(plan);
    const RowSpan<D> span(to, int(t.grad.vocab));
    Vec16 z;
    z.x = z.y = z.z = z.w = 0;
    const int step = threads() * cluster_size();
    for (int v = cluster_rank() * threads() + thread(); v < span.vectors; v += step)
      store16(to + span.vector_column(v), z, Cache::streaming);
    if (cluster_rank() == 0 && thread() < span.singles()) store(to + span.single_column(thread()), E(0));
  }

  /// The next selected row at or after `row` in this cluster's sequence of rows; rows passed over are cleared.
  FG_DEVICE Job<D> find(int64_t row) const {
    Job<D> job;
    const int64_t clusters = blocks() / cluster_size();
    for (; row < t.rows; row += clusters) {
      job.plan = load_same(t.workspace.plan + row);
      if (job.plan.selected()) break;
      if (cluster_rank() == 0 && thread() == 0) write_statistics(t, row, 0, 0, 0);
      zero(job.plan);
    }
    if (row >= t.rows) return job;
    job.row = row;
    job.data = static_cast<const E*>(t.logits.data) + job.plan.logits;
    const Slice<D> slice(job, int(t.logits.vocab));
    if (slice.has_single()) job.single = F::widen(load(job.data + slice.span.single_column(thread())));
    if (warp() == 0) job.target = F::widen(load_same(job.data + job.plan.target));
    return job;
  }

  /// Starts the copy of a row's slice. Every thread has taken what was in the buffer; nobody has written to it.
  FG_DEVICE void arm(const Job<D>& job) const {
    if (thread() != 0 || job.row < 0) return;
    const Slice<D> slice(job, int(t.logits.vocab));
    const uint32_t bytes = uint32_t(slice.count) * 16;
    barrier_expect(landed, bytes);
    if (bytes > 0) bulk_load(buffer, job.data + slice.span.vector_column(slice.begin), bytes, landed);
  }
};

template <DType D, int kVectors>
struct Registers {
  using F = Format<D>;
  Vec16 x[kVectors];
  int mine = -1;  // which of them holds the target, if any

  FG_DEVICE void take(const Job<D>& job, const Slice<D>& slice, Shared<Vec16> buffer) {
    FG_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      const int at = j * threads() + thread();
      x[j] = at < slice.count ? Vec16(buffer[at]) : filler<D>();
    }
    const int v = slice.span.vector_of(job.plan.target);
    const int local = v - slice.begin;
    const bool here = v >= 0 && local >= 0 && local < slice.count && local % threads() == thread();
    mine = here ? local / threads() : -1;
    const int in_vector = job.plan.target - slice.span.vector_column(v);
    FG_UNROLL
    for (int j = 0; j < kVectors; ++j)
      if (j == mine) set_in_vector<D>(x[j], in_vector, minus_infinity<D>());
  }

  FG_DEVICE float max(int count, float m) const {
    FG_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      if (j * threads() >= count) break;
      float f[F::kPer];
      F::unpack(x[j], f);
      FG_UNROLL
      for (int i = 0; i < F::kPer; ++i) m = fmaxf(m, f[i]);
    }
    return m;
  }

  template <bool kEntropy>
  FG_DEVICE Sums sums(const Job<D>& job, const Slice<D>& slice, float scale) const {
    const bool single = slice.has_single() && slice.span.single_column(thread()) != job.plan.target;
    Sums s;
    s.max = max(slice.count, single ? fmaxf(s.max, job.single) : s.max);
    float other_sum = 0, other_weighted = 0;  // two chains of additions
    if (single) add_column<kEntropy>(job.single, s.max, scale, s.sum, s.weighted);
    FG_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      if (j * threads() >= slice.count) break;
      float f[F::kPer];
      F::unpack(x[j], f);
      FG_UNROLL
      for (int i = 0; i < F::kPer; i += 2) {
        add_column<kEntropy>(f[i], s.max, scale, s.sum, s.weighted);
        add_column<kEntropy>(f[i + 1], s.max, scale, other_sum, other_weighted);
      }
    }
    s.sum += other_sum, s.weighted += other_weighted;
    return s;
  }

  /// Rows of the gradient lie at the logits' alignment (table.cu sees to it).
  template <bool kLinear>
  FG_DEVICE void write(const Job<D>& job, const Slice<D>& slice, typename F::Element* out, float scale,
                       const RowCoefficients& k) const {
    FG_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      if (j * threads() >= slice.count) break;
      const int at = j * threads() + thread();
      float f[F::kPer];
      F::unpack(x[j], f);
      FG_UNROLL
      for (int i = 0; i < F::kPer; ++i) f[i] = gradient_of<kLinear>(f[i], scale, k);
      if (at < slice.count) store16(out + slice.span.vector_column(slice.begin + at), F::pack(f), Cache::streaming);
    }
    if (slice.has_single())
      store(out + slice.span.single_column(thread()), F::narrow(gradient_of<kLinear>(job.single, scale, k)));
    // The thread that wrote the target's column writes it again, from 1 - p rather than p - 1.
    const bool single = slice.has_single() && slice.span.single_column(thread()) == job.plan.target;
    if (mine >= 0 || single) store(out + job.plan.target, F::narrow(k.own));
  }
};

/// Sums over the cluster: warp 0 sends the block's to every block, itself included, and merges what comes in.
FG_DEVICE Sums exchange(const Sums& s, float scale, Shared<Vec16> inbox, Shared<Barrier> received, uint32_t count) {
  const int size = cluster_size(), slot = int(count & 1) * kMaxCluster;
  const uint32_t parity = (count >> 1) & 1;
  if (lane() == 0) barrier_expect(received + (count & 1), uint32_t(size) * 16);
  Vec16 message;
  message.x = float_as_bits(s.max), message.y = float_as_bits(s.sum), message.z = float_as_bits(s.weighted);
  message.w = 0;
  if (lane() < size) send(message, inbox + (slot + cluster_rank()), lane(), received + (count & 1));
  barrier_wait(received + (count & 1), parity);
  Sums mine;
  if (lane() < size) {
    const Vec16 m = inbox[slot + lane()];
    mine = Sums{bits_as_float(m.x), bits_as_float(m.y), bits_as_float(m.z)};
  }
  return warp_merged(mine, scale);
}

template <DType D, int kVectors>
FG_DEVICE void run_rows(const RowTask& t) {
  FG_SHARED(Barrier, landed, 1);
  FG_SHARED(Barrier, received, 2);
  FG_SHARED(Vec16, inbox, 2 * kMaxCluster);
  FG_SHARED(RowCoefficients, coefficients, 1);
  const FaultKey before = earlier_fault(t.workspace, t.segments);
  const int64_t cluster = block() / cluster_size(), clusters = blocks() / cluster_size();
  FG_SHARED(Partial, total, 1);  // of thread 0
  if (thread() == 0) total[0] = empty_partial();
  if (before != kNoFault) {
    if (cluster_rank() == 0) finish(t.workspace, cluster, clusters, total, before, t.outcome, t.sequences);
    return;
  }
  if (thread() == 0) {
    barrier_init(landed, 1);
    barrier_init(received, 1);
    barrier_init(received + 1, 1);
    publish_barriers();
  }
  cluster_sync();
  const Cluster<D> c{t, dynamic_shared<Vec16>(), landed};
  Job<D> job = c.find(cluster);
  c.arm(job);
  Job<D> next;
  if (job.row >= 0) next = c.find(job.row + clusters);
  for (uint32_t i = 0; job.row >= 0; ++i) {
    barrier_wait(landed, i & 1);
    Registers<D, kVectors> r;
    const Slice<D> slice(job, int(t.logits.vocab));
    r.take(job, slice, c.buffer);
    RowInputs in;
    if (warp() == 0) in = load_inputs(t, job.row, job.plan);
    sync();
    c.arm(next);
    const Sums mine =
        t.entropy ? r.template sums<true>(job, slice, t.scale) : r.template sums<false>(job, slice, t.scale);
    Sums sums = block_merged(mine, t.scale);
    if (warp() == 0) {
      if (cluster_size() > 1) sums = exchange(sums, t.scale, inbox, received, i);
      const bool counts = cluster_rank() == 0 && thread() == 0;
      const RowCoefficients k = row_step(t, job.row, job.plan, in, sums, job.target, counts, SharedTotal{total});
      if (lane() == 0) coefficients[0] = k;
    }
    sync();
    const RowCoefficients k = coefficients[0];
    typename Format<D>::Element* const out = c.out(job.plan);
    if (k.a == 0 && k.b == 0 && k.own == 0)
      c.zero(job.plan);  // another block's columns: all of them have been read, before the exchange
    else if (k.b == 0)
      r.template write<false>(job, slice, out, t.scale, k);
    else
      r.template write<true>(job, slice, out, t.scale, k);
    job = next;
    if (job.row >= 0) next = c.find(job.row + clusters);
  }
  cluster_sync();  // nobody leaves while a peer may still send to it
  if (cluster_rank() == 0) finish(t.workspace, cluster, clusters, total, kNoFault, t.outcome, t.sequences);
}
#endif

// Whatever the architecture, the kernel must exist: nvcc leaves undefined what happens otherwise. Without clusters it
// is empty, and table.cu never launches it.
template <DType D, int kThreads, int kVectors, int kBlocks>
FG_KERNEL(kThreads, kBlocks)
rows_cluster(const RowTask t) {
#ifdef FG_HAS_CLUSTERS
  run_rows<D, kVectors>(t);
#endif
}

template <DType D, int kThreads, int kVectors, int kBlocks>
Launch launch_as(void* stream, const RowTask& t, const Device& device, const ClusterChoice& c) {
  Shape shape;
  shape.threads = kThreads;
  shape.cluster = c.blocks;
  shape.shared = size_t(c.slice) * 16;
  if (shape.shared > device.shared_per_block) return launch_rows_block(stream, t, device);
  int64_t clusters = resident_clusters(rows_cluster<D, kThreads, kVectors, kBlocks>, shape);
  clusters = clusters < kMaxPartials ? clusters : kMaxPartials;
  clusters = t.rows < 1 ? 1 : t.rows < clusters ? t.rows : clusters;
  shape.blocks = clusters * c.blocks;
  return launch(rows_cluster<D, kThreads, kVectors, kBlocks>, "rows_cluster", __FILE__, __LINE__, shape, stream, t);
}

template <DType D>
Launch launch_for(void* stream, const RowTask& t, const Device& d, const ClusterChoice& c) {
  if (c.threads == 512) return launch_as<D, 512, 16, 1>(stream, t, d, c);
  if (c.vectors == 4) return launch_as<D, 256, 4, 2>(stream, t, d, c);
  if (c.vectors == 8) return launch_as<D, 256, 8, 2>(stream, t, d, c);
  if (c.vectors == 12) return launch_as<D, 256, 12, 2>(stream, t, d, c);
  return launch_as<D, 256, 16, 2>(stream, t, d, c);
}

}  // namespace

Launch launch_rows_cluster(void* stream, const RowTask& t, const Device& d, const ClusterChoice& c) {
  if (t.logits.dtype == DType::f32) return launch_for<DType::f32>(stream, t, d, c);
  if (t.logits.dtype == DType::bf16) return launch_for<DType::bf16>(stream, t, d, c);
  return launch_for<DType::f16>(stream, t, d, c);
}

}  // namespace fg::cuda
