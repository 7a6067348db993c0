// daemon/log.hpp: lines go to the trace.
#include <string>

#include "daemon/log.hpp"
#include "tests/sim/kernel.hpp"

namespace nearcached::daemon::log {
namespace {

struct ToText {
  std::string operator()(std::string_view text) const { return std::string(text); }
  std::string operator()(bool flag) const { return flag ? "true" : "false"; }
  std::string operator()(std::int64_t number) const { return std::to_string(number); }
  std::string operator()(std::uint64_t number) const { return std::to_string(number); }
};

}  // namespace

void write(Level, std::string_view event, Fields fields) {
  sim::Kernel& kernel = sim::Kernel::current();
  if (!kernel.tracing()) return;
  std::string line = "LOG sidecar " + std::to_string(kernel.running_sidecar()) + " " + std::string(event);
  for (const Field& field : fields)
    line.append(" ").append(field.name).append("=").append(std::visit(ToText(), field.value));
  kernel.trace(line);
}

void write_limited(Level level, std::string_view event, std::string_view, Fields fields) { write(level, event, fields); }

}  // namespace nearcached::daemon::log
