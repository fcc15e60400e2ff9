#pragma once
// Included by every rows_*.cc before its target pragma: all standard headers, and constants. Nothing here is compiled
// code.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/rows.h"

namespace fg::kernels {

// 2^r on [-1/2, 1/2], relative error 1.9e-9 (Remez); with one rounding per step at most 1 ulp.
inline constexpr float kExp2[7] = {1.0f,
                                   0.6931471824645996f,
                                   0.24022646248340607f,
                                   0.05550328642129898f,
                                   0.009618489071726799f,
                                   0.0013399930903688073f,
                                   0.0001534581242594868f};
// 2^r on [0, 1), 1 at 0: relative error 1.3e-8 as rounded here (0.54 ulp with fused multiply-adds).
inline constexpr float kExp2Floor[7] = {1.0f,
                                        0.6931470632553101f,
                                        0.2402293086051941f,
                                        0.055485282093286514f,
                                        0.009675451554358006f,
                                        0.0012467845808714628f,
                                        0.0002161291631637141f};
inline constexpr float kFloatLowest = -3.402823466e+38f;
inline constexpr double kLn2 = 0.69314718055994530942;
inline constexpr int64_t kPrefetchLine = 64;

}  // namespace fg::kernels
