// Products of bfloat16 matrices by float32 instructions. One factor, the smaller one as a rule, is packed once, for all
// tasks; each task packs what it needs of the other one, into memory that stays in its second cache. (To pack a weight
// for all was a twentieth slower: memory that several cores write and read goes through the third cache.)
#include "kernels/wide_product.h"

#include <algorithm>

#include "kernels/cpu/wide_pack.h"

#if defined(FG_BF16_AVX512)
namespace fg {
namespace {

constexpr int64_t kBlock = 192;        // of inner: a panel of B of that depth stays in the first cache (36 KB)
constexpr int64_t kRowsOfPanel = 288;  // at most, of a task that packs panels of B: its rows of A stay in the second
constexpr int64_t kRowsOfTask = 96;    // at most, of a task that packs A

// What bounds the workspace: floats of the shared factor, and rows or columns of either where inner is cut.
constexpr int64_t kSharedFloats = int64_t{1} << 21;
constexpr int64_t kMostLines = 2048, kMostDepth = 2048;

constexpr int64_t pieces_of(int64_t n, int64_t size) { return (n + size - 1) / size; }
constexpr int64_t round_up(int64_t n, int64_t to) { return pieces_of(n, to) * to; }

using Sums = __m512[kRows][kVectors];

FG_INLINE void step(const float* a, const float* b, Sums& sum) {
  __m512 y[kVectors];
#pragma GCC unroll 3
  for (int v = 0; v < kVectors; ++v) y[v] = _mm512_load_ps(b + v * kLane);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const __m512 x = _mm512_set1_ps(a[r]);
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_fmadd_ps(x, y[v], sum[r][v]);
  }
}

/// `ahead`: what will be read next, a line for every two steps.
FG_INLINE void products(int64_t depth, const float* a, const float* b, const float* ahead, Sums& sum) {
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4, ahead += 2 * kLane) {
    __builtin_prefetch(ahead, 0, 2);  // into the second cache
    __builtin_prefetch(ahead + kLane, 0, 2);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, a += kRows, b += kWidth) step(a, b, sum);
  }
  for (; k < depth; ++k, a += kRows, b += kWidth) step(a, b, sum);
}

/// Where the sums of a tile come from and go to; strides are of rows.
struct Target {
  const float* from = nullptr;  // added, or null
  int64_t from_stride = 0;
  float* to = nullptr;  // null: to C, with its residual
  int64_t to_stride = 0;
  bf16* c = nullptr;
  const bf16* residual = nullptr;
};

FG_INLINE void finish(const WideProductArgs& a, const Target& t, int64_t rows, int64_t columns, const Sums& sum) {
  __mmask16 lanes[kVectors];
  for (int v = 0; v < kVectors; ++v) lanes[v] = lanes_of(columns - v * kLane);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) break;
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      __m512 x = sum[r][v];
      const int64_t at = v * kLane;
      if (t.from) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes[v], t.from + r * t.from_stride + at));
      if (t.to) {
        _mm512_mask_storeu_ps(t.to + r * t.to_stride + at, lanes[v], x);
        continue;
      }
      if (t.residual)
        x = _mm512_add_ps(x, widen(_mm256_maskz_loadu_epi16(lanes[v], t.residual + r * a.residual_stride + at)));
      _mm256_mask_storeu_epi16(t.c + r * a.c_stride + at, lanes[v], narrow(x));
    }
  }
}

/// Eight rows by a panel, `depth` numbers of each. Not inlined: GCC 12 would keep some of the sums in memory.
__attribute__((noinline)) void tile(const WideProductArgs& args, int64_t depth, const float* a, const float* b,
                                    const float* ahead, const Target& t, int64_t rows, int64_t columns) {
  Sums sum;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_setzero_ps();
  products(depth, a, b, ahead, sum);
  finish(args, t, rows, columns, sum);
}

/// A part of the product, for which the shared factor is packed.
struct Part {
  int64_t row, rows, column, columns, begin, end;  // begin, end: of inner
  bool shares_a;
  float* shared;
  float* sums;  // (rows, columns), of the parts before: only where C is bfloat16 and inner is cut

  int64_t depth() const { return end - begin; }
};

/// fn(k, n) for the blocks of a part's depth, once where there is none.
template <class Fn>
void each_block(int64_t depth, Fn fn) {
  const int64_t blocks = std::max<int64_t>(1, pieces_of(depth, kBlock)), size = pieces_of(depth, blocks);
  for (int64_t i = 0; i < blocks; ++i) fn(i * size, std::min(size, depth - i * size));
}

/// Rows and columns are those of a part. Packed rows of A: block after block of its depth, each (groups, n, kRows);
/// packed B: panel after panel of kWidth columns, each (depth, kWidth).
class PartProduct {
 public:
  PartProduct(const WideProductArgs& a, const Part& p) : a_(a), p_(p) {}

  /// Rows [row, row + rows) of A, into memory of `all` rows from `first` on.
  void pack_a(int64_t row, int64_t rows, int64_t first, int64_t all, float* to) const {
    const WideMatrix& m = a_.a;
    const bf16* from = m.data + (p_.row + row) * m.row_stride + p_.begin * m.column_stride;
    each_block(p_.depth(), [&](int64_t k, int64_t n) {
      float* block = to + k * round_up(all, kLane) + (row - first) * n;
      pack_rows(from + k * m.column_stride, m.row_stride, m.column_stride, rows, n, block);
    });
  }
  /// Numbers [k, k + n) of a panel of B.
  void pack_b(int64_t column, int64_t k, int64_t n, float* to) const {
    const WideMatrix& m = a_.b;
    pack_columns(m.data + (p_.begin + k) * m.row_stride + (p_.column + column) * m.column_stride, m.row_stride,
                 m.column_stride, columns(column), n, to);
  }

  /// Some rows by one panel of B, with a shared A.
  void by_panel(const Context& context, int64_t row, int64_t rows, int64_t column) const {
    float* sums = scratch(context, rows * kWidth, kBlock * kWidth);
    float* b = sums + rows * kWidth;
    each_block(p_.depth(), [&](int64_t k, int64_t n) {
      pack_b(column, k, n, b);
      const float* a = p_.shared + k * round_up(p_.rows, kLane) + row * n;
      tiles(a, b, a + kRows * n, row, rows, column, k, n, sums);
    });
  }
  /// Some rows by all columns, with a shared B.
  void by_rows(const Context& context, int64_t row, int64_t rows) const {
    const int64_t all = round_up(rows, kLane);
    float *sums = scratch(context, all * kWidth, all * p_.depth()), *a = sums + all * kWidth;
    pack_a(row, rows, row, rows, a);
    for (int64_t column = 0; column < p_.columns; column += kWidth)
      each_block(p_.depth(), [&](int64_t k, int64_t n) {
        const float* b = p_.shared + column * p_.depth() + k * kWidth;
        tiles(a + k * all, b, b + n * kWidth, row, rows, column, k, n, sums);
      });
  }

 private:
  int64_t columns(int64_t column) const { return std::min(kWidth, p_.columns - column); }
  static float* scratch(const Context& context, int64_t sums, int64_t packed) {
    return static_cast<float*>(context.scratch((sums + packed) * static_cast<int64_t>(sizeof(float))));
  }

  /// Eight rows at a time by numbers [k, k + n) of a panel of B, which stays in the first cache. `sums`: (rows, kWidth)
  /// between the blocks.
  void tiles(const float* a, const float* b, const float* ahead, int64_t row, int64_t rows, int64_t column, int64_t k,
             int64_t n, float* sums) const {
    for (int64_t r = 0; r < rows; r += kRows, a += kRows * n, sums += kRows * kWidth, ahead += n / 2 * kLane)
      tile(a_, n, a, b, ahead, target(row + r, column, k == 0, k + n == p_.depth(), sums), rows - r, columns(column));
  }

  /// `first`, `last`: of the part's blocks.
  Target target(int64_t row, int64_t column, bool first, bool last, float* sums) const {
    const bool wide = a_.dtype == DType::f32;
    const int64_t to = (p_.row + row) * a_.c_stride + p_.column + column;
    float* all = wide ? static_cast<float*>(a_.c) + to : p_.sums + row * p_.columns + column;
    const int64_t stride = wide ? a_.c_stride : p_.columns;
    Target t;
    if (!first)
      t.from = sums, t.from_stride = kWidth;
    else if (p_.begin > 0 || (wide && a_.add))
      t.from = all, t.from_stride = stride;
    if (!last) {
      t.to = sums, t.to_stride = kWidth;
    } else if (wide || p_.end < a_.inner) {
      t.to = all, t.to_stride = stride;
    } else {
      t.c = static_cast<bf16*>(a_.c) + to;
      if (a_.residual) t.residual = a_.residual + (p_.row + row) * a_.residual_stride + p_.column + column;
    }
    return t;
  }

  const WideProductArgs& a_;
  const Part& p_;
};

/// fn(begin, end) for `pieces` pieces of [0, n), in units of sixteen.
template <class Fn>
void each_piece(const Context& context, int64_t n, int64_t pieces, Fn fn) {
  const int64_t units = pieces_of(n, kLane);
  parallel_for(context, pieces, 1, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      const int64_t from = units * i / pieces * kLane, to = std::min(n, units * (i + 1) / pieces * kLane);
      if (from < to) fn(from, to);
    }
  });
}

void with_shared_a(const Context& context, const WideProductArgs& a, const Part& p) {
  const PartProduct product(a, p);
  each_piece(context, p.rows, pieces_of(p.rows, 2 * kLane),
             [&](int64_t from, int64_t to) { product.pack_a(from, to - from, 0, p.rows, p.shared); });
  const int64_t pieces = pieces_of(p.rows, kRowsOfPanel), rows = round_up(pieces_of(p.rows, pieces), kLane);
  const int64_t panels = pieces_of(p.columns, kWidth);
  // Panel after panel by the same rows: those stay in a thread's second cache.
  parallel_for(context, pieces * panels, 1, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      const int64_t row = i / panels * rows;
      if (row < p.rows) product.by_panel(context, row, std::min(rows, p.rows - row), i % panels * kWidth);
    }
  });
}

void with_shared_b(const Context& context, const WideProductArgs& a, const Part& p) {
  const PartProduct product(a, p);
  parallel_for(context, p.columns, kWidth,
               [&](int64_t column, int64_t) { product.pack_b(column, 0, p.depth(), p.shared + column * p.depth()); });
  // Two for each thread, or a number that few threads share equally. It changes no sum.
  const int64_t least = std::min<int64_t>(pieces_of(p.rows, kLane), 2 * a.threads);
  const int64_t pieces = std::max(least, round_up(pieces_of(p.rows, kRowsOfTask), 4));
  each_piece(context, p.rows, pieces, [&](int64_t from, int64_t to) { product.by_rows(context, from, to - from); });
}

/// The sizes of the parts.
struct Plan {
  bool shares_a;
  int64_t rows, columns, depth;

  explicit Plan(const WideProductArgs& a)
      // B by columns is shared at almost any shape: line after line of it, where a task would read pieces of lines.
      : shares_a(a.b.column_stride == 1 ? a.columns > 4 * a.rows : a.columns >= a.rows) {
    const int64_t lines = std::clamp<int64_t>(shares_a ? a.rows : a.columns, 1, kMostLines);
    depth = equal(a.inner, std::min(kMostDepth, kSharedFloats / lines));
    const int64_t others = shares_a ? a.columns : a.rows;
    const int64_t some = equal(shares_a ? a.rows : a.columns, kMostLines);
    const int64_t rest = depth < a.inner ? equal(others, kMostLines) : round_up(others, kWidth);
    rows = shares_a ? some : rest;
    columns = shares_a ? rest : some;
  }
  int64_t shared_floats() const { return (shares_a ? rows : columns) * depth; }

 private:
  /// Of pieces of at most `most`, the size of whole tiles.
  static int64_t equal(int64_t n, int64_t most) {
    return std::max(kWidth, round_up(pieces_of(n, std::max<int64_t>(1, pieces_of(n, most))), kWidth));
  }
};

}  // namespace

bool has_wide_product() { return tile_level() == 2; }

int64_t wide_product_floats(const WideProductArgs& a) {
  const Plan plan(a);
  const bool sums = a.dtype == DType::bf16 && plan.depth < a.inner;
  return plan.shared_floats() + (sums ? plan.rows * plan.columns : 0);
}

void wide_product(const Context& context, const WideProductArgs& a) {
  const Plan plan(a);
  for (int64_t column = 0; column < a.columns; column += plan.columns)
    for (int64_t row = 0; row < a.rows; row += plan.rows)
      for (int64_t k = 0; k < a.inner || k == 0; k += plan.depth) {
        Part p{};
        p.row = row, p.rows = std::min(plan.rows, a.rows - row);
        p.column = column, p.columns = std::min(plan.columns, a.columns - column);
        p.begin = k, p.end = std::min(a.inner, k + plan.depth);
        p.shares_a = plan.shares_a, p.shared = a.workspace, p.sums = a.workspace + plan.shared_floats();
        plan.shares_a ? with_shared_a(context, a, p) : with_shared_b(context, a, p);
      }
}

}  // namespace fg

#else

namespace fg {
bool has_wide_product() { return false; }
int64_t wide_product_floats(const WideProductArgs&) { return 0; }
void wide_product(const Context&, const WideProductArgs&) {}
}  // namespace fg

#endif
