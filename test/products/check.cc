// linear_plain on every instruction set of this machine against fp64, at sizes around the vectors and tiles. Prints one line for each
// set: `name worst`, where `worst` is the largest error over the bound of its rounding; exits with 1 where a row's bits depend on its
// company.
#include <cmath>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/linear_bf16.h"
#include "kernels/kernels.h"
#include "kernels/linear.h"

using namespace fg;

namespace {

constexpr int64_t kGuard = 64;  // numbers behind the output, which must stay

Bf16Way way = Bf16Way::none;  // as linear_plain chooses

uint32_t state = 1;
float draw() {
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(static_cast<int32_t>(state)) * 4.6566e-10f;
}

template <class T>
std::vector<T> numbers(int64_t n) {
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) store(&x, draw());
  return v;
}

void run_all(int64_t n, int64_t chunk, RangeBody body, void* state) {
  for (int64_t i = 0; i < n; i += chunk) body(state, i, i + chunk < n ? i + chunk : n);
}

template <class T>
struct Case {
  int64_t rows, in, out;
  bool extras;
  std::vector<T> x = numbers<T>(rows * in), w = numbers<T>(out * in), bias = numbers<T>(out), residual = numbers<T>(rows * out);

  std::vector<T> run(int64_t first, int64_t count) const {
    std::vector<T> y(static_cast<size_t>(count * out + kGuard));
    std::memset(y.data(), 0x55, y.size() * sizeof(T));
    std::vector<float> scratch(static_cast<size_t>(count * plain_scratch_floats(in)));
    LinearPlainArgs a{};
    a.x = x.data() + first * in;
    a.weight = w.data();
    a.bias = extras ? bias.data() : nullptr;
    a.residual = extras ? residual.data() + first * out : nullptr;
    a.y = y.data();
    a.rows = count;
    a.in = in;
    a.out = out;
    a.dtype = sizeof(T) == 4 ? DType::f32 : DType::bf16;
    a.scratch = scratch.data();
    Context context{};
    context.parallel_for = run_all;
    way == Bf16Way::none ? linear_plain(context, a) : linear_bf16(context, a, 48, way);
    for (int64_t i = count * out; i < count * out + kGuard; ++i)
      for (size_t b = 0; b < sizeof(T); ++b)
        if (reinterpret_cast<const unsigned char*>(&y[static_cast<size_t>(i)])[b] != 0x55) std::printf("overrun\n"), std::exit(1);
    return y;
  }

  double worst() const {
    const std::vector<T> y = run(0, rows);
    const double epsilon = sizeof(T) == 4 ? 6e-8 : 1.0 / 256;
    double worst = 0;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = 0; o < out; ++o) {
        double sum = 0, size = 0;
        for (int64_t i = 0; i < in; ++i) {
          const double p = double(load(&x[r * in + i])) * load(&w[o * in + i]);
          sum += p, size += std::abs(p);
        }
        double bound = size * 6e-8 * 8;  // sums of 16 or 32 lanes, float32
        if (extras) {
          sum += load(&bias[o]);
          bound += std::abs(sum) * epsilon;  // rounded with its bias, then again with the residual
          sum += load(&residual[r * out + o]);
        }
        bound += std::abs(sum) * epsilon + 1e-30;
        worst = std::max(worst, std::abs(load(&y[r * out + o]) - sum) / bound);
      }
    return worst;
  }

  /// One product is exact in float32: what is left is the rounding, which store() defines.
  bool rounded_as_stored() const {
    const std::vector<T> y = run(0, rows);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t o = 0; o < out; ++o) {
        T wanted;
        store(&wanted, load(&x[r]) * load(&w[o]));
        if (in == 1 && !extras && std::memcmp(&wanted, &y[r * out + o], sizeof wanted)) return false;
      }
    return true;
  }

  bool alone() const {
    const std::vector<T> all = run(0, rows);
    for (int64_t r = 0; r < rows; ++r)
      if (std::memcmp(run(r, 1).data(), all.data() + r * out, static_cast<size_t>(out) * sizeof(T))) return false;
    return true;
  }
};

/// NaN and infinities come through, and only where they belong.
bool special() {
  Case<bf16> c{9, 65, 50, false};
  store(&c.x[3 * 65 + 64], std::numeric_limits<float>::quiet_NaN());
  store(&c.x[5 * 65], INFINITY);
  const std::vector<bf16> y = c.run(0, 9);
  for (int64_t r = 0; r < 9; ++r)
    for (int64_t o = 0; o < 50; ++o) {
      const float v = load(&y[r * 50 + o]);
      if (r == 3 ? v == v : r == 5 ? !std::isinf(v) : !std::isfinite(v)) return false;
    }
  return true;
}

template <class T>
void check(const char* name) {
  double worst = 0;
  for (int64_t rows : {0, 1, 2, 4, 7, 8, 13, 16})
    for (int64_t in : {1, 15, 16, 31, 32, 33, 63, 64, 97, 576, 768, 769, 1600})
      for (int64_t out : {1, 2, 3, 16, 47, 48, 49, 100}) {
        const Case<T> c{rows, in, out, (rows + in + out) % 2 == 0};
        worst = std::max(worst, c.worst());
        if (!c.rounded_as_stored()) std::printf("not rounded as store() does: %s\n", name), std::exit(1);
        if ((in < 100 || rows == 13) && out < 50 && !c.alone()) std::printf("a row depends on the others: %s\n", name), std::exit(1);
      }
  std::printf("%s %.3f\n", name, worst);
}

}  // namespace

int main(int argc, char** argv) {
  // Which set the products use is decided at their first call: one set for each process.
  if (argc < 2 || !kernels::use_simd(argv[1])) return 2;
  check<float>("float32");
  for (const Bf16Way tried : {Bf16Way::none, Bf16Way::pairs, Bf16Way::halves}) {
    if (!can_multiply(tried)) continue;
    way = tried;
    if (!special()) std::printf("NaN or infinity went astray\n"), std::exit(1);
    check<bf16>(way == Bf16Way::none ? "bfloat16" : way == Bf16Way::pairs ? "bfloat16-pairs" : "bfloat16-halves");
  }
}
