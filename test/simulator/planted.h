#pragma once
// Kernels with one mistake each, and their healthy twins: what shows that the simulator finds what it is there to find.
#include <string>
#include <vector>

#include "kernels/cuda/platform.h"

namespace fg::sim {

/// Runs the case; `bug` plants the mistake.
struct Planted {
  const char* name;
  void (*run)(bool bug);
  static std::vector<Planted>& all() {
    static std::vector<Planted> list;
    return list;
  }
  Planted(const char* n, void (*r)(bool)) : name(n), run(r) { all().push_back(*this); }
};

/// The arguments that all of these kernels take.
struct PlantedArgs {
  float* data;
  uint32_t* ticket;
  int64_t n;
};

/// Launches `kernel` on an array of n floats, 0, 1, 2, ...; returns it afterwards.
std::vector<float> run_planted(const char* name, void (*kernel)(PlantedArgs), const cuda::Shape& shape, int64_t n);
/// The healthy twin's result must be right as well.
void expect_equal(double got, double want);

}  // namespace fg::sim

// FG_PLANTED(name, kernel template on bool, shape, n, statement on `out`)
#define FG_PLANTED(id, text, kernel, shape, n, check)                                                    \
  const ::fg::sim::Planted id(text, [](bool bug) {                                                       \
    [[maybe_unused]] const auto out =                                                                    \
        ::fg::sim::run_planted(#kernel, bug ? kernel<true> : kernel<false>, ::fg::cuda::Shape shape, n); \
    if (!bug) {                                                                                          \
      check;                                                                                             \
    }                                                                                                    \
  })
