#pragma once
// What differs between device and CPU: "" or the first thing that does, in words. Tolerances live here.
#include "cases.h"

namespace fg::check {

std::string differ(const char* what, const std::vector<float>& device, const std::vector<float>& cpu, double tolerance);

/// Rows by tolerance, masked rows exactly 0, everything between the rows as it was.
std::string differ_grad(const Case& c, const Bytes& device, const Bytes& cpu, const Rows& shape, int64_t base,
                        const std::vector<float>& slack);

/// `logp`: the largest magnitude of a log-prob (at least 1), which the metrics' errors grow with.
std::string differ_metrics(const PolicyMetrics& device, const PolicyMetrics& cpu, double logp);

/// Everything of a Result but the gradient of the logits and the metrics.
std::string differ_values(const Result& device, const Result& cpu);

/// Bit by bit. NaN-free by construction, so bytes of equal runs are equal.
bool same(const Result& a, const Result& b);

/// Counts a check; found "": it passed.
void report(const Case& c, const char* op, const char* variant, const std::string& found);

}  // namespace fg::check
