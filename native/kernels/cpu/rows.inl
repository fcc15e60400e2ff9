// The row algorithm, once for all instruction sets: included inside an anonymous namespace by rows_*.cc after they have
// defined `Vec` (kWidth, F, set, load<D>, store<D>, max, add, sub, mul, fma, exp2, hmax, hsum) and `FlushDenormals`. A
// Vec with kPairs also loads and stores two vectors at a time, whose elements may lie in any order between the two. Its
// exp2 takes -inf unless it has kClamp. No standard inline function may be called here: the linker could keep this
// copy, compiled for this instruction set.

template <DType D>
using Element = std::conditional_t<D == DType::f32, float, uint16_t>;

/// Minus infinity in the element's format.
template <DType D>
constexpr Element<D> minus_infinity() {
  if constexpr (D == DType::f32) return -__builtin_inff();
  return D == DType::bf16 ? 0xFF80 : 0xFC00;
}

// V is Vec: as a parameter, so that a Vec without pairs need not have them.
template <DType D, class V = Vec>
inline void load_pair(const Element<D>* p, Vec::F& a, Vec::F& b) {
  if constexpr (V::kPairs)
    V::template load_pair<D>(p, a, b);
  else
    a = Vec::load<D>(p), b = Vec::load<D>(p + Vec::kWidth);
}

template <DType D, class V = Vec>
inline void store_pair(Element<D>* p, Vec::F a, Vec::F b) {
  if constexpr (V::kPairs)
    V::template store_pair<D>(p, a, b);
  else
    Vec::store<D>(p, a), Vec::store<D>(p + Vec::kWidth, b);
}

/// Fetches what lies at the place of two vectors from column i on in the row that starts at `row`, if there is one.
template <DType D, int kLevel>
inline void prefetch_pair(const char* row, int64_t i) {
  if constexpr (Vec::kPrefetch) {
    constexpr int64_t bytes = 2 * Vec::kWidth * int64_t(sizeof(Element<D>));
    for (int64_t line = 0; row && line < bytes; line += kPrefetchLine)
      __builtin_prefetch(row + i * int64_t(sizeof(Element<D>)) + line, 0, kLevel);
  }
}

/// pair(i, k) for two vectors from column i on, k = 0, 2 in turn; then tail(i, count) for at most one vector at a time.
template <class Pair, class Tail>
inline void for_vectors(int64_t n, Pair&& pair, Tail&& tail) {
  constexpr int64_t w = Vec::kWidth;
  int64_t i = 0;
  for (; i + 4 * w <= n; i += 4 * w) pair(i, 0), pair(i + 2 * w, 2);
  if (i + 2 * w <= n) pair(i, 0), i += 2 * w;
  for (; i < n; i += w) tail(i, n - i < w ? n - i : w);
}

template <DType D>
inline float block_max(const Element<D>* z, int64_t n) {
  Vec::F m[4] = {Vec::set(kFloatLowest), Vec::set(kFloatLowest), Vec::set(kFloatLowest), Vec::set(kFloatLowest)};
  for_vectors(
      n,
      [&](int64_t i, int k) {
        Vec::F a, b;
        load_pair<D>(z + i, a, b);
        m[k] = Vec::max(m[k], a);
        m[k + 1] = Vec::max(m[k + 1], b);
      },
      [&](int64_t i, int64_t count) { m[0] = Vec::max(m[0], Vec::load_tail<D>(z + i, count, kFloatLowest)); });
  return Vec::hmax(Vec::max(Vec::max(m[0], m[1]), Vec::max(m[2], m[3])));
}

struct BlockSums {
  float sum, weighted;
};

/// Sums of 2^x and x 2^x, x = (z - max) * scale; NaN anywhere gives NaN. The block is in the first cache: meanwhile
/// memory brings what `ahead` points to, as many bytes as the block has (null: nothing), which no hardware would know
/// of.
template <DType D, bool kEntropy>
inline BlockSums block_sums(const Element<D>* z, int64_t n, float max, float scale, const char* ahead) {
  const Vec::F vmax = Vec::set(max), vscale = Vec::set(scale), lowest = Vec::set(kLowest), zero = Vec::set(0);
  Vec::F s[4] = {zero, zero, zero, zero}, u[4] = {zero, zero, zero, zero};
  const auto add = [&](Vec::F v, int k) {
    Vec::F x = Vec::mul(Vec::sub(v, vmax), vscale);
    if constexpr (kEntropy || Vec::kClamp) x = Vec::max(lowest, x);  // -inf times 0 would be NaN
    const Vec::F e = Vec::exp2(x);
    s[k] = Vec::add(s[k], e);
    if constexpr (kEntropy) u[k] = Vec::fma(x, e, u[k]);
  };
  for_vectors(
      n,
      [&](int64_t i, int k) {
        prefetch_pair<D, 3>(ahead, i);
        Vec::F a, b;
        load_pair<D>(z + i, a, b);
        add(a, k), add(b, k + 1);
      },
      [&](int64_t i, int64_t count) { add(Vec::load_tail<D>(z + i, count, -__builtin_inff()), 0); });
  return {Vec::hsum(Vec::add(Vec::add(s[0], s[1]), Vec::add(s[2], s[3]))),
          kEntropy ? Vec::hsum(Vec::add(Vec::add(u[0], u[1]), Vec::add(u[2], u[3]))) : 0.0f};
}

/// One block at a time: its maximum, then its sums while it is in the first-level cache, the running sums rescaled when
/// the maximum grew. The target's block is copied with the target at -inf, so that the sums leave it out exactly.
template <DType D, bool kEntropy>
void row_sums(const Element<D>* z, int64_t n, int64_t target, float scale, RestSums* out) {
  float max = kFloatLowest;
  double sum = 0, weighted = 0;
  alignas(64) Element<D> copy[kBlock];
  for (int64_t i = 0; i < n; i += kBlock) {
    const int64_t count = n - i < kBlock ? n - i : kBlock;
    const Element<D>* block = z + i;
    if (target >= i && target < i + count) {
      memcpy(copy, block, size_t(count) * sizeof(*copy));
      copy[target - i] = minus_infinity<D>();
      block = copy;
    }
    const float m = block_max<D>(block, count);
    if (m > max) {
      const double shift = (double(max) - double(m)) * scale * kLn2, factor = ::exp(shift);
      weighted = factor == 0 ? 0 : factor * (weighted + sum * shift);
      sum *= factor;
      max = m;
    }
    // Two blocks ahead. Behind the row lies the next one, or nothing that is mapped: a prefetch does not fault.
    const BlockSums b =
        block_sums<D, kEntropy>(block, count, max, scale, reinterpret_cast<const char*>(z + i + 2 * kBlock));
    sum += b.sum;
    weighted += double(b.weighted) * kLn2;
  }
  *out = {max, sum, weighted};
}

template <DType D, bool kLinear>
void row_gradient(const Element<D>* z, Element<D>* g, int64_t n, float scale, const RowGradient& p, const char* next) {
  const Vec::F vmax = Vec::set(p.max), vscale = Vec::set(scale), a = Vec::set(p.a), b = Vec::set(p.b);
  const Vec::F lowest = Vec::set(kLowest), zero = Vec::set(0);
  const auto value = [&](Vec::F v) {
    Vec::F x = Vec::mul(Vec::sub(v, vmax), vscale);
    if constexpr (kLinear || Vec::kClamp) x = Vec::max(lowest, x);
    const Vec::F e = Vec::exp2(x);
    return Vec::fma(e, kLinear ? Vec::fma(b, x, a) : a, zero);  // + 0: never -0
  };
  for_vectors(
      n,
      [&](int64_t i, int) {
        prefetch_pair<D, 2>(next, i);
        Vec::F y, t;
        load_pair<D>(z + i, y, t);
        store_pair<D>(g + i, value(y), value(t));
      },
      [&](int64_t i, int64_t count) {
        Vec::store_tail<D>(g + i, value(Vec::load_tail<D>(z + i, count, -__builtin_inff())), count);
      });
}

template <DType D>
void sums_of(const void* row, int64_t n, int64_t target, float scale, bool entropy, RestSums* out) {
  const auto* z = static_cast<const Element<D>*>(row);
  entropy ? row_sums<D, true>(z, n, target, scale, out) : row_sums<D, false>(z, n, target, scale, out);
}

template <DType D>
void gradient_of(const void* row, void* out, int64_t n, float scale, const RowGradient& p, const void* next) {
  const auto* z = static_cast<const Element<D>*>(row);
  auto* g = static_cast<Element<D>*>(out);
  const auto* ahead = static_cast<const char*>(next);
  p.b != 0 ? row_gradient<D, true>(z, g, n, scale, p, ahead) : row_gradient<D, false>(z, g, n, scale, p, ahead);
}

void sums(DType type, const void* row, int64_t n, int64_t target, float scale, bool entropy, RestSums* out) {
  FlushDenormals guard;
  if (type == DType::f32) return sums_of<DType::f32>(row, n, target, scale, entropy, out);
  if (type == DType::bf16) return sums_of<DType::bf16>(row, n, target, scale, entropy, out);
  sums_of<DType::f16>(row, n, target, scale, entropy, out);
}

void gradient(DType type, const void* row, void* out, int64_t n, float scale, const RowGradient& p, const void* next) {
  FlushDenormals guard;
  if (type == DType::f32) return gradient_of<DType::f32>(row, out, n, scale, p, next);
  if (type == DType::bf16) return gradient_of<DType::bf16>(row, out, n, scale, p, next);
  gradient_of<DType::f16>(row, out, n, scale, p, next);
}
