#include "loadtest/process_cpu.hpp"

#include <unistd.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace nearcached::loadtest {

std::optional<CpuTime> process_cpu(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  // The name in field 2 may hold blanks and parentheses: fields are counted from its last ')'.
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return std::nullopt;
  }
  std::istringstream fields(text.substr(name_end + 1));
  constexpr int kFieldsBeforeUtime = 11;  // state (3) .. cmajflt (13); utime is field 14
  std::string skipped;
  for (int i = 0; i < kFieldsBeforeUtime; ++i) {
    fields >> skipped;
  }
  double user_ticks = 0;
  double system_ticks = 0;
  if (!(fields >> user_ticks >> system_ticks)) {
    return std::nullopt;
  }
  const auto ticks_per_second = static_cast<double>(::sysconf(_SC_CLK_TCK));
  return CpuTime{user_ticks / ticks_per_second, system_ticks / ticks_per_second};
}

}  // namespace nearcached::loadtest
