#pragma once
// This machine's names and addresses, for processes that look for each other.
#include <string>

namespace fg {

/// Whether this machine knows an address for the name.
bool resolves(const std::string& host);

/// The address by which this machine reaches `host`, or nothing. (A machine's own name often means another network, or
/// none.)
std::string address_towards(const std::string& host);

/// Whether somebody takes a TCP connection there within a second.
bool accepts(const std::string& host, int port);

/// The network interfaces that have an address: "eth0, lo".
std::string interfaces();

}  // namespace fg
