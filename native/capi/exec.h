#pragma once
// The threads that a call runs on.
#include <optional>

#include "capi/check.h"
#include "parallel/pool.h"

struct fg_pool {
  fg::Pool threads;
};

namespace fg::capi {

/// Of one call: the caller's pool, threads of the call's own, or the calling thread alone.
class Team {
 public:
  explicit Team(const fg_exec* exec);
  Context context() const;

 private:
  int wanted_ = 1;
  Pool* given_ = nullptr;
  mutable std::optional<Pool> own_;  // started when everything else has been checked
};

}  // namespace fg::capi
