#include "torch/host_address.h"

#include <memory>
#include <set>

#include <ifaddrs.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace fg {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses addresses_of(const std::string& host, int port = 9) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) found = nullptr;
  return {found, &freeaddrinfo};
}

}  // namespace

bool resolves(const std::string& host) { return addresses_of(host) != nullptr; }

bool accepts(const std::string& host, int port) {
  const Addresses found = addresses_of(host, port);
  bool taken = false;
  for (const addrinfo* a = found.get(); a && !taken; a = a->ai_next) {
    const int fd = socket(a->ai_family, SOCK_STREAM, 0);
    const timeval second{1, 0};
    if (fd < 0) continue;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);  // of connect, too
    taken = connect(fd, a->ai_addr, a->ai_addrlen) == 0;
    close(fd);
  }
  return taken;
}

std::string address_towards(const std::string& host) {
  const Addresses found = addresses_of(host);
  std::string address;
  for (const addrinfo* a = found.get(); a && address.empty(); a = a->ai_next) {
    const int fd = socket(a->ai_family, SOCK_DGRAM, 0);
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    char text[NI_MAXHOST];
    if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0 &&
        getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
        getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0)
      address = text;
    if (fd >= 0) close(fd);
  }
  return address;
}

std::string interfaces() {
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return "";
  std::set<std::string> names;
  for (const ifaddrs* i = found; i; i = i->ifa_next)
    if (i->ifa_addr && (i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6))
      names.insert(i->ifa_name);
  freeifaddrs(found);
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace fg
