#pragma once
// What Gloo is told about networks, and what it says when they fail.
#ifndef USE_C10D_GLOO
#define USE_C10D_GLOO
#endif
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace fg {

/// The networks that GLOO_SOCKET_IFNAME names, or the one towards `host`, rank 0's. Throws CodedError ERR_INVALID_ARG
/// for a name that this machine has not got.
std::vector<std::shared_ptr<gloo::transport::Device>> devices_for(const std::string& host);

/// Gloo's words, without where in its sources they stand and what it wishes us.
std::string exchange_words(const std::exception& e);

}  // namespace fg
