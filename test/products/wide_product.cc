// wide_product against fp64 at sizes around its tiles, blocks and parts. Numbers are small integers, whose sums are exact in any order:
// what is left is the rounding, which store() defines, so that results are equal to the last bit. Prints `worst`, the largest error of
// other numbers over the bound of their rounding; exits with 1 and a reason where something is wrong, with 2 without AVX-512.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/wide_product.h"
#include "parallel/pool.h"
#include "parallel/thread_scratch.h"

using namespace fg;

namespace {

constexpr int64_t kGap = 3;     // numbers between the lines of every matrix, of C too
constexpr int64_t kGuard = 64;  // behind C: must stay, as the gaps must
constexpr unsigned char kUntouched = 0x55;

[[noreturn]] void fail(const char* why) {
  std::printf("%s\n", why);
  std::exit(1);
}

uint32_t state = 1;
uint32_t draw() { return (state = state * 1664525u + 1013904223u) >> 8; }

/// A matrix of doubles that are bfloat16 numbers.
struct Matrix {
  int64_t rows, columns;
  std::vector<double> at;
  Matrix(int64_t r, int64_t c, bool integers) : rows(r), columns(c), at(size_t(r * c)) {
    for (double& x : at) {
      if (integers) {
        x = double(int32_t(draw() % 17) - 8);
        continue;
      }
      bf16 b;
      store(&b, float(draw()) / float(1 << 23) - 1.0f);
      x = load(&b);
    }
  }
};

/// Numbers that end where a page that may not be read begins.
class Fenced {
 public:
  explicit Fenced(size_t count) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE)), bytes = count * sizeof(bf16), used = (bytes + page - 1) / page * page;
    size_ = used + page;
    base_ = static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + used, page, PROT_NONE)) fail("no memory");
    data = reinterpret_cast<bf16*>(base_ + used - bytes);
    for (size_t i = 0; i < count; ++i) data[i].bits = 0x7fc0;
  }
  ~Fenced() { munmap(base_, size_); }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;

  bf16* data;

 private:
  char* base_;
  size_t size_;
};

/// A matrix in memory, by rows or by columns, NaN in the gaps.
struct Stored {
  int64_t lines, length, stride;
  Fenced memory;
  WideMatrix view;
  Stored(const Matrix& m, bool by_rows, int64_t gap = kGap)
      : lines(by_rows ? m.rows : m.columns),
        length(by_rows ? m.columns : m.rows),
        stride(length + gap),
        memory(size_t(lines ? (lines - 1) * stride + length : 0)) {
    view = {memory.data, by_rows ? stride : 1, by_rows ? 1 : stride};
    for (int64_t r = 0; r < m.rows; ++r)
      for (int64_t c = 0; c < m.columns; ++c)
        store(memory.data + r * view.row_stride + c * view.column_stride, float(m.at[size_t(r * m.columns + c)]));
  }
};

enum class Mode { set, residual, in_place, floats, added };
constexpr Mode kModes[] = {Mode::set, Mode::residual, Mode::in_place, Mode::floats, Mode::added};

Context context_with(TeamParallelFor team_parallel_for, void* team) {
  Context c{};
  c.team_parallel_for = team_parallel_for;
  c.team = team;
  c.scratch = thread_scratch;
  return c;
}
Context of_pool(Pool& pool) {
  return context_with(
      [](void* team, int64_t n, int64_t chunk, RangeBody body, void* s) { static_cast<Pool*>(team)->run(n, chunk, body, s); }, &pool);
}
Context backwards() {
  return context_with(
      [](void*, int64_t n, int64_t chunk, RangeBody body, void* s) {
        for (int64_t i = (n + chunk - 1) / chunk; i-- > 0;) body(s, i * chunk, std::min(n, (i + 1) * chunk));
      },
      nullptr);
}

int cut_for = 1;  // threads

/// C with its gaps and guard; what it holds at first is `before`.
template <class T>
std::vector<T> run(const Context& context, const Stored& a, const Stored& b, const Matrix& before, int64_t inner, Mode mode) {
  const int64_t rows = before.rows, columns = before.columns, stride = columns + kGap;
  std::vector<T> c(size_t(rows * stride + kGuard));
  std::memset(c.data(), kUntouched, c.size() * sizeof(T));
  const Stored residual(before, true, 2 * kGap);
  WideProductArgs p{};
  p.a = a.view, p.b = b.view;
  p.rows = rows, p.inner = inner, p.columns = columns;
  p.c = c.data(), p.c_stride = stride;
  p.dtype = sizeof(T) == 4 ? DType::f32 : DType::bf16;
  p.add = mode == Mode::added;
  p.threads = cut_for;
  if (mode == Mode::in_place || mode == Mode::added)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < columns; ++j) store(&c[size_t(r * stride + j)], float(before.at[size_t(r * columns + j)]));
  if (mode == Mode::residual) p.residual = residual.memory.data, p.residual_stride = residual.stride;
  if (mode == Mode::in_place) p.residual = reinterpret_cast<const bf16*>(c.data()), p.residual_stride = stride;
  const int64_t floats = wide_product_floats(p);
  std::vector<float> workspace(size_t(floats + 16 + kGuard), std::numeric_limits<float>::quiet_NaN());
  p.workspace = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(workspace.data()) + 63) / 64 * 64);
  std::memset(p.workspace + floats, kUntouched, kGuard);
  wide_product(context, p);
  for (int64_t i = 0; i < kGuard; ++i)
    if (reinterpret_cast<unsigned char*>(p.workspace + floats)[i] != kUntouched) fail("writes behind its workspace");
  return c;
}

bool agree(double x, double y) { return x == y || (x != x && y != y); }

template <class T>
double compare(const std::vector<T>& c, const std::vector<double>& wanted, const std::vector<double>& sizes, int64_t rows, int64_t columns,
               bool exact) {
  const int64_t stride = columns + kGap;
  std::vector<unsigned char> gap(size_t(kGuard) * sizeof(T), kUntouched);
  double worst = 0;
  for (int64_t r = 0; r < rows; ++r) {
    if (std::memcmp(&c[size_t(r * stride + columns)], gap.data(), kGap * sizeof(T))) fail("writes between the rows");
    for (int64_t j = 0; j < columns; ++j) {
      const double got = load(&c[size_t(r * stride + j)]), want = wanted[size_t(r * columns + j)];
      if (exact && !agree(got, rounded<T>(float(want)))) fail("an exact sum is not rounded as store() does");
      if (exact) continue;
      const double epsilon = sizeof(T) == 4 ? 6e-8 : 1.0 / 256;  // and sums in float32, whose errors are random
      worst = std::max(worst, std::abs(got - want) / (sizes[size_t(r * columns + j)] * 6e-8 * 8 + std::abs(want) * epsilon + 1e-30));
    }
  }
  if (std::memcmp(&c[size_t(rows * stride)], gap.data(), gap.size())) fail("writes behind C");
  return worst;
}

template <class T>
double check_mode(const Context& context, const Stored& a, const Stored& b, const Matrix& before, int64_t inner, Mode mode,
                  std::vector<double> wanted, std::vector<double> sizes, bool exact) {
  if (mode != Mode::set && mode != Mode::floats)
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i] += before.at[i], sizes[i] += std::abs(before.at[i]);
  return compare(run<T>(context, a, b, before, inner, mode), wanted, sizes, before.rows, before.columns, exact);
}

/// Every orientation and mode.
double check(const Context& context, int64_t rows, int64_t inner, int64_t columns, bool exact) {
  const Matrix a(rows, inner, exact), b(inner, columns, exact), before(rows, columns, exact);
  std::vector<double> wanted(size_t(rows * columns)), sizes(wanted);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < inner; ++k)
      for (int64_t j = 0; j < columns; ++j) {
        const double product = a.at[size_t(r * inner + k)] * b.at[size_t(k * columns + j)];
        wanted[size_t(r * columns + j)] += product, sizes[size_t(r * columns + j)] += std::abs(product);
      }
  double worst = 0;
  for (int orientation = 0; orientation < 4; ++orientation) {
    const Stored left(a, orientation % 2), right(b, orientation / 2);
    for (const Mode mode : kModes) {
      const auto one = mode == Mode::floats || mode == Mode::added ? check_mode<float> : check_mode<bf16>;
      worst = std::max(worst, one(context, left, right, before, inner, mode, wanted, sizes, exact));
    }
  }
  return worst;
}

/// NaN and infinities come through, and only where they belong.
void check_special(int64_t rows, int64_t inner, int64_t columns) {
  for (int orientation = 0; orientation < 4; ++orientation) {
    Matrix a(rows, inner, true), b(inner, columns, true);
    for (double& x : a.at) x = x == 0 ? 1 : x;  // 0 times infinity would be NaN
    const int64_t nan_row = rows / 2, column = columns - 1;
    a.at[size_t(nan_row * inner + inner - 1)] = std::numeric_limits<double>::quiet_NaN();
    b.at[size_t(column)] = std::numeric_limits<double>::infinity();
    const Matrix before(rows, columns, true);
    const auto c = run<bf16>(backwards(), Stored(a, orientation % 2), Stored(b, orientation / 2), before, inner, Mode::residual);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < columns; ++j) {
        const float v = load(&c[size_t(r * (columns + kGap) + j)]);
        if (r == nan_row ? v == v : j == column ? !std::isinf(v) : !std::isfinite(v)) fail("NaN or infinity went astray");
      }
  }
}

/// The same bits with any number of threads.
void check_threads(int64_t rows, int64_t inner, int64_t columns) {
  const Matrix a(rows, inner, false), b(inner, columns, false), before(rows, columns, false);
  const Stored left(a, true), right(b, false);
  for (const Mode mode : {Mode::residual, Mode::added}) {
    const auto bits = [&](const Context& context) {
      std::vector<unsigned char> out;
      const auto keep = [&](const auto& c) {
        const auto* p = reinterpret_cast<const unsigned char*>(c.data());
        out.assign(p, p + c.size() * sizeof c[0]);
      };
      mode == Mode::added ? keep(run<float>(context, left, right, before, inner, mode))
                          : keep(run<bf16>(context, left, right, before, inner, mode));
      return out;
    };
    const auto alone = bits(backwards());
    for (const int threads : {1, 2, 4, 9}) {
      Pool pool(threads);
      cut_for = threads;
      for (int repeat = 0; repeat < 3; ++repeat)
        if (bits(of_pool(pool)) != alone) fail("results depend on the number of threads");
    }
    cut_for = 1;
  }
}

}  // namespace

int main() {
  if (!kernels::use_simd("avx512") || !has_wide_product()) return 2;
  Pool pool(2);
  const Context context = of_pool(pool);
  for (const int64_t rows : {0, 1, 7, 8, 9, 16, 17, 65})
    for (const int64_t inner : {0, 1, 2, 31, 32, 33, 191, 192, 193, 385})
      for (const int64_t columns : {0, 1, 15, 16, 17, 47, 48, 49, 97}) check(context, rows, inner, columns, true);
  // More than one part: inner cut, with either factor shared, and more lines than are packed at once.
  constexpr int64_t kLarge[][3] = {{17, 4100, 50}, {50, 4100, 17}, {2100, 9, 2111}, {3, 2200, 2100}, {2100, 2200, 3}, {700, 30, 49}, {49, 30, 700}};
  for (const auto& [rows, inner, columns] : kLarge) check(context, rows, inner, columns, true);
  double worst = 0;
  for (const int64_t inner : {1, 100, 576, 4100}) worst = std::max(worst, check(context, 37, inner, 53, false));
  check_special(9, 65, 50);
  check_special(50, 2, 17);
  check_threads(100, 400, 130);
  check_threads(70, 2500, 50);
  check_threads(700, 250, 40);
  std::printf("worst %.3f\n", worst);
}
