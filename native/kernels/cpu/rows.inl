// The row algorithm, once for all instruction sets: included inside an anonymous namespace by rows_*.cc after they have
// defined `Vec` (kWidth, F, set, load<D>, store<D>, max, add, sub, mul, fma, split, raise, hmax, hsum) and
// `FlushDenormals`. A Vec with kPairs also loads and stores two vectors at a time, whose elements may lie in any order
// between the two, and finds the largest of 16-bit elements as integers; one with kMasks loads and stores less than a
// vector. No standard inline function may be called
// here: the linker could keep this copy, compiled for this instruction set.
//
// 2^x, x = y scale, y = z - max: `split` gives r = x - n, small, and n in a form that `raise` takes; raise(p, n) is
// p 2^n. Where kClamp is set, y must not be below kFloor / scale, where the power is 0; otherwise -inf is allowed.

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

/// The first n elements of a vector, `fill` behind them.
template <DType D, class V = Vec>
inline Vec::F load_tail(const Element<D>* p, int64_t n, float fill) {
  if constexpr (V::kMasks) {
    return V::template load_tail<D>(p, n, fill);
  } else {
    alignas(64) Element<D> raw[V::kWidth] = {};
    alignas(64) float wide[V::kWidth];
    memcpy(raw, p, size_t(n) * sizeof(*raw));
    V::template store<DType::f32>(wide, V::template load<D>(raw));
    for (int64_t i = n; i < V::kWidth; ++i) wide[i] = fill;
    return V::template load<DType::f32>(wide);
  }
}

template <DType D, class V = Vec>
inline void store_tail(Element<D>* p, Vec::F v, int64_t n) {
  if constexpr (V::kMasks) {
    V::template store_tail<D>(p, v, n);
  } else {
    alignas(64) Element<D> raw[V::kWidth];
    V::template store<D>(raw, v);
    memcpy(p, raw, size_t(n) * sizeof(*raw));
  }
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

/// Vectors worked on side by side, so that their chains of multiply-adds do not wait for each other.
constexpr int kGroup = 4;

/// group(i) for kGroup vectors from column i on; then tail(i, count) for at most one vector at a time.
template <class Group, class Tail>
inline void for_vectors(int64_t n, Group&& group, Tail&& tail) {
  constexpr int64_t w = Vec::kWidth;
  int64_t i = 0;
  for (; i + kGroup * w <= n; i += kGroup * w) group(i);
  for (; i < n; i += w) tail(i, n - i < w ? n - i : w);
}

/// The elements from column i on, while what lies as far behind `ahead` (null: nothing) is fetched into a cache.
template <DType D, int kLevel>
inline void load_group(const Element<D>* z, const char* ahead, int64_t i, Vec::F (&v)[kGroup]) {
  for (int j = 0; j < kGroup; j += 2) {
    prefetch_pair<D, kLevel>(ahead, i + j * Vec::kWidth);
    load_pair<D>(z + i + j * Vec::kWidth, v[j], v[j + 1]);
  }
}

template <DType D>
inline void store_group(Element<D>* g, int64_t i, const Vec::F (&v)[kGroup]) {
  for (int j = 0; j < kGroup; j += 2) store_pair<D>(g + i + j * Vec::kWidth, v[j], v[j + 1]);
}

/// Both 16-bit formats are ordered by their magnitudes as integers: where there is one without a sign the largest
/// signed integer is the maximum, else the smallest unsigned one. (A NaN may be the result or be passed over.)
template <DType D, class V = Vec>
inline float block_max_16(const uint16_t* z, int64_t n) {
  constexpr int64_t w = V::kIntegers;
  auto high = V::integers(-32768), low = V::integers(-1);
  int64_t i = 0;
  for (; i + w <= n; i += w) {
    const auto v = V::load_integers(z + i);
    high = V::max_signed(high, v);
    low = V::min_unsigned(low, v);
  }
  int most = V::hmax_signed(high), least = V::hmin_unsigned(low);
  for (; i < n; ++i) {
    const int v = z[i];
    if (int16_t(v) > most) most = int16_t(v);
    if (v < least) least = v;
  }
  const uint16_t found = uint16_t(most >= 0 ? most : least);
  return V::hmax(load_tail<D, V>(&found, 1, kFloatLowest));
}

template <DType D, class V = Vec>
inline float block_max(const Element<D>* z, int64_t n) {
  if constexpr (V::kPairs && D != DType::f32) {
    const float m = block_max_16<D, V>(z, n);
    return m > kFloatLowest ? m : kFloatLowest;
  }
  Vec::F m[kGroup];
  for (Vec::F& v : m) v = Vec::set(kFloatLowest);
  for_vectors(
      n,
      [&](int64_t i) {
        Vec::F v[kGroup];
        load_group<D, 3>(z, nullptr, i, v);
        for (int j = 0; j < kGroup; ++j) m[j] = Vec::max(m[j], v[j]);
      },
      [&](int64_t i, int64_t count) { m[0] = Vec::max(m[0], load_tail<D>(z + i, count, kFloatLowest)); });
  return Vec::hmax(Vec::max(Vec::max(m[0], m[1]), Vec::max(m[2], m[3])));
}

/// What `powers` needs of a row.
struct Base {
  Vec::F max, scale, lowest;
  Base(float max, float scale) : max(Vec::set(max)), scale(Vec::set(scale)), lowest(Vec::set(floor_of(scale))) {}
  static float floor_of(float scale) {
    const float y = Vec::kFloor / scale;
    return y < kFloatLowest ? kFloatLowest : y;
  }
};

/// From logits z to y = z - max, finite if asked for (-inf times 0 would be NaN), and e = 2^(y scale).
template <bool kFinite, int N>
inline void powers(const Base& b, Vec::F (&y)[N], Vec::F (&e)[N]) {
  Vec::F n[N], r[N];
  for (int j = 0; j < N; ++j) {
    y[j] = Vec::sub(y[j], b.max);
    if constexpr (kFinite || Vec::kClamp) y[j] = Vec::max(b.lowest, y[j]);
  }
  for (int j = 0; j < N; ++j) Vec::split(y[j], b.scale, n[j], r[j]);
  for (int j = 0; j < N; ++j) e[j] = Vec::set(Vec::kPower[6]);
  for (int k = 5; k >= 0; --k)
    for (int j = 0; j < N; ++j) e[j] = Vec::fma(e[j], r[j], Vec::set(Vec::kPower[k]));
  for (int j = 0; j < N; ++j) e[j] = Vec::raise(e[j], n[j]);
}

struct BlockSums {
  float sum, weighted;
};

/// Sums of 2^x and y 2^x; NaN anywhere gives NaN. The block is in the first cache: meanwhile memory brings what `ahead`
/// points to, as many bytes as the block has, which no hardware would know of. `kept`: where 2^x is left.
template <DType D, bool kEntropy, bool kKeep>
inline BlockSums block_sums(const Element<D>* z, int64_t n, float max, float scale, const char* ahead, float* kept) {
  const Base base(max, scale);
  Vec::F s[kGroup], u[kGroup];
  for (int j = 0; j < kGroup; ++j) s[j] = u[j] = Vec::set(0);
  const auto add = [&]<int N>(Vec::F(&y)[N], int64_t i) {
    Vec::F e[N];
    powers<kEntropy>(base, y, e);
    for (int j = 0; j < N; ++j) {
      s[j] = Vec::add(s[j], e[j]);
      if constexpr (kEntropy) u[j] = Vec::fma(y[j], e[j], u[j]);
      if constexpr (kKeep) Vec::store<DType::f32>(kept + i + j * Vec::kWidth, e[j]);
    }
  };
  for_vectors(
      n,
      [&](int64_t i) {
        Vec::F y[kGroup];
        load_group<D, 3>(z, ahead, i, y);
        add(y, i);
      },
      [&](int64_t i, int64_t count) {
        Vec::F y[1] = {load_tail<D>(z + i, count, -__builtin_inff())};
        add(y, i);
      });
  return {Vec::hsum(Vec::add(Vec::add(s[0], s[1]), Vec::add(s[2], s[3]))),
          kEntropy ? Vec::hsum(Vec::add(Vec::add(u[0], u[1]), Vec::add(u[2], u[3]))) : 0.0f};
}

/// One block at a time: its maximum, then its sums while it is in the first-level cache, the running sums rescaled when
/// the maximum grew. The target's block is copied with the target at -inf, so that the sums leave it out exactly.
template <DType D, bool kEntropy, bool kKeep>
void row_sums(const Element<D>* z, int64_t n, int64_t target, float scale, const RowPowers* kept, RestSums* out) {
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
    const char* ahead = reinterpret_cast<const char*>(z + i + 2 * kBlock);
    float* powers = nullptr;
    if constexpr (kKeep) powers = kept->powers + i, kept->maxima[i / kBlock] = max;
    const BlockSums b = block_sums<D, kEntropy, kKeep>(block, count, max, scale, ahead, powers);
    sum += b.sum;
    weighted += double(b.weighted) * scale * kLn2;
  }
  *out = {max, sum, weighted};
}

template <DType D, bool kLinear>
void row_gradient(const Element<D>* z, Element<D>* g, int64_t n, float scale, const RowGradient& p, const char* next) {
  const Base base(p.max, scale);
  const Vec::F a = Vec::set(p.a), b = Vec::set(p.b * scale), zero = Vec::set(0);
  const auto value = [&]<int N>(Vec::F(&y)[N]) {
    Vec::F e[N];
    powers<kLinear>(base, y, e);
    for (int j = 0; j < N; ++j) y[j] = Vec::fma(e[j], kLinear ? Vec::fma(b, y[j], a) : a, zero);  // + 0: never -0
  };
  for_vectors(
      n,
      [&](int64_t i) {
        Vec::F y[kGroup];
        load_group<D, 2>(z, next, i, y);
        value(y);
        store_group<D>(g, i, y);
      },
      [&](int64_t i, int64_t count) {
        Vec::F y[1] = {load_tail<D>(z + i, count, -__builtin_inff())};
        value(y);
        store_tail<D>(g + i, y[0], count);
      });
}

/// From the powers that the sums left: each block's, multiplied by what the maximum has grown since.
template <DType D>
void gradient_of_powers(const RowPowers& kept, Element<D>* g, int64_t n, float scale, const RowGradient& p,
                        const char* next) {
  const Vec::F zero = Vec::set(0);
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = n - begin < kBlock ? n - begin : kBlock;
    const float factor = float(p.a * ::exp2((double(kept.maxima[begin / kBlock]) - double(p.max)) * scale));
    const Vec::F a = Vec::set(factor);
    const float* e = kept.powers + begin;
    Element<D>* out = g + begin;
    const char* ahead = next ? next + begin * int64_t(sizeof(Element<D>)) : nullptr;
    const auto value = [&](int64_t i) { return Vec::fma(Vec::load<DType::f32>(e + i), a, zero); };
    for_vectors(
        count,
        [&](int64_t i) {
          Vec::F v[kGroup];
          for (int j = 0; j < kGroup; ++j) v[j] = value(i + j * Vec::kWidth);
          for (int j = 0; j < kGroup; j += 2) prefetch_pair<D, 2>(ahead, i + j * Vec::kWidth);
          store_group<D>(out, i, v);
        },
        [&](int64_t i, int64_t left) { store_tail<D>(out + i, value(i), left); });
  }
}

template <DType D, bool kKeep>
void sums_kept(const void* row, int64_t n, int64_t target, float scale, bool entropy, const RowPowers* kept,
               RestSums* out) {
  const auto* z = static_cast<const Element<D>*>(row);
  entropy ? row_sums<D, true, kKeep>(z, n, target, scale, kept, out)
          : row_sums<D, false, kKeep>(z, n, target, scale, kept, out);
}

template <DType D>
void sums_of(const void* row, int64_t n, int64_t target, float scale, bool entropy, const RowPowers* kept,
             RestSums* out) {
  if (kept) return sums_kept<D, true>(row, n, target, scale, entropy, kept, out);
  sums_kept<D, false>(row, n, target, scale, entropy, kept, out);
}

template <DType D>
void gradient_of(const void* row, void* out, int64_t n, float scale, const RowGradient& p, const RowPowers* kept,
                 const void* next) {
  const auto* z = static_cast<const Element<D>*>(row);
  auto* g = static_cast<Element<D>*>(out);
  const auto* ahead = static_cast<const char*>(next);
  if (kept && p.b == 0) return gradient_of_powers<D>(*kept, g, n, scale, p, ahead);
  p.b != 0 ? row_gradient<D, true>(z, g, n, scale, p, ahead) : row_gradient<D, false>(z, g, n, scale, p, ahead);
}

void sums(DType type, const void* row, int64_t n, int64_t target, float scale, bool entropy, const RowPowers* kept,
          RestSums* out) {
  FlushDenormals guard;
  if (type == DType::f32) return sums_of<DType::f32>(row, n, target, scale, entropy, kept, out);
  if (type == DType::bf16) return sums_of<DType::bf16>(row, n, target, scale, entropy, kept, out);
  sums_of<DType::f16>(row, n, target, scale, entropy, kept, out);
}

void gradient(DType type, const void* row, void* out, int64_t n, float scale, const RowGradient& p,
              const RowPowers* kept, const void* next) {
  FlushDenormals guard;
  if (type == DType::f32) return gradient_of<DType::f32>(row, out, n, scale, p, kept, next);
  if (type == DType::bf16) return gradient_of<DType::bf16>(row, out, n, scale, p, kept, next);
  gradient_of<DType::f16>(row, out, n, scale, p, kept, next);
}
