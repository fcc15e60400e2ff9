#include "torch/rank_network.h"

#include <cstdlib>
#include <sstream>

#include "torch/error.h"
#include "torch/host_address.h"

namespace fg {
namespace {

using Device = std::shared_ptr<gloo::transport::Device>;

Device device_of(const std::string& interface) {
  try {
    return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  } catch (const std::exception&) {
    throw CodedError("ERR_INVALID_ARG",
                     "GLOO_SOCKET_IFNAME names '" + interface +
                         "', but this machine has no such network interface with an address; it has " + interfaces());
  }
}

}  // namespace

std::vector<Device> devices_for(const std::string& host) {
  std::vector<Device> devices;
  const char* names = std::getenv("GLOO_SOCKET_IFNAME");
  std::istringstream list(names ? names : "");
  for (std::string name; std::getline(list, name, ',');)
    if (!name.empty()) devices.push_back(device_of(name));
  if (!devices.empty()) return devices;
  const std::string address = address_towards(host);
  return {address.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                          : c10d::ProcessGroupGloo::createDeviceForHostname(address)};
}

std::string exchange_words(const std::exception& e) {
  const auto* ours = dynamic_cast<const c10::Error*>(&e);
  std::string text = ours ? ours->what_without_backtrace() : e.what();
  if (const size_t at = text.find("] ", text.rfind('/') == std::string::npos ? 0 : text.rfind('/'));
      text.rfind('[', 0) == 0 && at != std::string::npos)
    text = text.substr(at + 2);  // "[/somebody's/path/pair.cc:446] "
  text = text.substr(0, text.find('\n'));
  if (const size_t at = text.find(" GLHF!"); at != std::string::npos) text.erase(at, 6);
  return text;
}

}  // namespace fg
