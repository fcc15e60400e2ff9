#pragma once
// Threads that go through the same code together, each doing its share of every kernel: one parallel region for a chain
// of kernels that are too short to open one each.
#include <atomic>
#include <functional>

#include "kernels/context.h"

namespace fg {

/// Calls `work` once on every thread of a new team (on the calling thread alone inside another parallel region). All
/// members must run the same kernels with the same arguments, through team_context(), and must not throw between them.
void run_team(int64_t threads, const std::function<void()>& work);

/// Each member does a fixed share of a kernel's tasks; when a call returns, all have done theirs. Outside a team
/// everything is done by the calling thread.
Context team_context();

}  // namespace fg
