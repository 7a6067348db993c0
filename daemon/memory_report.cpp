#include "daemon/memory_report.hpp"

#include <cstdint>
#include <string_view>

namespace nearcached::daemon {
namespace {

// From four fifths of a limit on it is worth a word.
bool nearly_all(std::uint64_t used, std::uint64_t limit) { return limit != 0 && used >= limit - limit / 5; }

void append_use(std::string& text, std::string_view what, std::uint64_t used, std::uint64_t limit) {
  text += what;
  text += " " + std::to_string(used) + " of " + std::to_string(limit);
}

}  // namespace

std::string memory_report(const StatsSnapshot& s) {
  std::string text = "nearcached in front of it: ";
  if (s.l1_max_bytes == 0) {
    text += "L1 is off";
  } else {
    append_use(text, "L1 holds", s.l1.bytes, s.l1_max_bytes);
    text += " bytes in " + std::to_string(s.l1.items) + " entries";
  }
  append_use(text, ", buffers of clients and upstream connections hold", s.buffer_bytes, s.buffer_limit_bytes);
  append_use(text, " bytes, clients are", s.clients, s.clients_max);
  text += ".\n";
  if (nearly_all(s.buffer_bytes, s.buffer_limit_bytes)) {
    text +=
        "Buffers are nearly full: above limits.buffer_bytes requests are not read, and the client that holds most is "
        "closed. Look for clients that do not read their replies (CLIENT LIST, omem), or raise it.\n";
  }
  if (nearly_all(s.clients, s.clients_max)) {
    text += "Clients are nearly as many as limits.clients allows; more will be refused.\n";
  }
  return text;
}

}  // namespace nearcached::daemon
