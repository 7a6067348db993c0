#include "config/command_line.hpp"

#include <array>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "config/environment.hpp"
#include "config/loader.hpp"
#include "config/validate.hpp"

namespace nearcached::config {
namespace {

struct Assignment {
  const Key* key;
  std::string value;
  std::string flag;  // as the origin
};

// What the flags say, before any of it is applied: the file they name comes first.
struct Flags {
  Action action = Action::kRun;
  std::optional<std::string> config_file;
  std::vector<Assignment> assignments;  // in their order; the last one of a key wins
  std::vector<std::string> listen;
  bool skip_damaged = false;
};

// The arguments one by one; a flag's value is behind its '=' or is the next argument.
class Arguments {
 public:
  Arguments(int argc, const char* const* argv) : argc_(argc), argv_(argv) {}

  bool next() {
    if (at_ >= argc_) return false;
    const std::string_view argument(argv_[at_++]);
    const std::size_t equals = argument.starts_with("--") ? argument.find('=') : std::string_view::npos;
    flag_ = argument.substr(0, equals);
    attached_.reset();
    if (equals != std::string_view::npos) attached_ = argument.substr(equals + 1);
    return true;
  }

  [[nodiscard]] std::string_view flag() const { return flag_; }

  std::string value(std::string_view what) {
    if (attached_) return std::string(*attached_);
    if (at_ >= argc_ || std::string_view(argv_[at_]).starts_with("--")) {
      throw ConfigError(std::string(flag_) + ": has no value; allowed: " + std::string(flag_) + " " + std::string(what));
    }
    return argv_[at_++];
  }

  void no_value() const {
    if (attached_) throw ConfigError(std::string(flag_) + ": takes no value; allowed: " + std::string(flag_));
  }

 private:
  int argc_;
  const char* const* argv_;
  int at_ = 1;
  std::string_view flag_;
  std::optional<std::string_view> attached_;
};

constexpr std::array<std::pair<std::string_view, Action>, 4> kActions{{{"--check-config", Action::kCheck},
                                                                       {"--print-config", Action::kPrint},
                                                                       {"--version", Action::kVersion},
                                                                       {"--help", Action::kHelp}}};

bool read_action(Arguments& arguments, Flags& flags) {
  for (const auto& [name, action] : kActions) {
    if (arguments.flag() != name) continue;
    arguments.no_value();
    // Printing checks as well, so that both together mean printing.
    if (flags.action != Action::kPrint || action != Action::kCheck) flags.action = action;
    return true;
  }
  return false;
}

void read_set(Arguments& arguments, Flags& flags) {
  const std::string assignment = arguments.value("dotted.key=value");
  const std::size_t equals = assignment.find('=');
  // What is without '=' is not repeated: it could be a secret.
  if (equals == std::string::npos) throw ConfigError("--set: has no '=' behind the key; allowed: --set dotted.key=value");
  const std::string path = assignment.substr(0, equals);
  const Key* key = find_key(path);
  if (key == nullptr && is_section(path) && !path.empty()) {
    throw ConfigError("--set: " + path + ": is a section; allowed: one of its keys, " + names_below(path));
  }
  if (key == nullptr) throw_unknown_key({"--set", 0}, path);
  flags.assignments.push_back({key, assignment.substr(equals + 1), "--set"});
}

void read_flag(Arguments& arguments, Flags& flags) {
  const std::string flag(arguments.flag());
  if (flag == "--config") {
    if (flags.config_file) throw ConfigError("--config: is given twice; allowed: once");
    flags.config_file = arguments.value("FILE");
  } else if (flag == "--listen") {
    flags.listen.push_back(arguments.value("HOST:PORT|unix:PATH"));
  } else if (flag == "--upstream") {
    flags.assignments.push_back({find_key("upstream.url"), arguments.value("URL"), flag});
  } else if (flag == "--admin") {
    flags.assignments.push_back({find_key("admin.listen"), arguments.value("HOST:PORT"), flag});
  } else if (flag == "--wal-skip-damaged") {
    arguments.no_value();
    flags.skip_damaged = true;
  } else if (flag == "--set") {
    read_set(arguments, flags);
  } else if (flag.starts_with("-")) {
    throw ConfigError(flag +
                      ": unknown flag; allowed: --config, --listen, --upstream, --admin, --set, --wal-skip-damaged, "
                      "--check-config, --print-config, --version, --help");
  } else {
    throw ConfigError("\"" + flag + "\": is not a flag; a configuration file is given with --config FILE");
  }
}

Flags read_flags(int argc, const char* const* argv) {
  Flags flags;
  Arguments arguments(argc, argv);
  while (arguments.next()) {
    if (!read_action(arguments, flags)) read_flag(arguments, flags);
    if (flags.action == Action::kHelp || flags.action == Action::kVersion) break;
  }
  return flags;
}

void apply_flags(Configuration& configuration, const Flags& flags) {
  for (const Assignment& assignment : flags.assignments) {
    const Origin origin{assignment.flag, 0};
    configuration.assign(*assignment.key, value_from_text(*assignment.key, assignment.value, origin), origin);
  }
  if (flags.listen.empty()) return;
  Value addresses = Value::of(Value::Kind::kList);
  for (const std::string& address : flags.listen) addresses.items.push_back(Value::scalar(address));
  configuration.assign(*find_key("listen"), addresses, {"--listen", 0});
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv, const char* const* environment) {
  const Flags flags = read_flags(argc, argv);
  CommandLine result;
  result.action = flags.action;
  result.config_file = flags.config_file.value_or("");
  if (flags.action == Action::kHelp || flags.action == Action::kVersion) return result;

  Configuration configuration;
  if (flags.config_file) load_file(configuration, *flags.config_file);
  apply_environment(configuration, environment);
  apply_flags(configuration, flags);
  validate(configuration);
  result.settings = std::move(configuration.settings);
  result.settings.write_behind.skip_damaged = flags.skip_damaged;
  result.origins = std::move(configuration.origins);
  return result;
}

std::string help_text() {
  return R"(nearcached: a near-cache sidecar for Redis

usage: nearcached [--config FILE] [--listen HOST:PORT|unix:PATH]... [--upstream URL] [--admin HOST:PORT]
                  [--set dotted.key=value]... [--wal-skip-damaged] [--check-config] [--print-config] [--version]
                  [--help]

  --config FILE            settings in YAML
  --listen ADDRESS         where clients connect, HOST:PORT or unix:PATH; may be repeated, replaces the file's list
  --upstream URL           redis://[user:password@]host[:port][/database], redis+cluster://host[:port],... or unix:/path
  --admin HOST:PORT        where /metrics, /livez, /readyz and /stats are served; off: nowhere
  --set dotted.key=value   any key of the file, for example --set l1.max_bytes=200MB; may be repeated
  --wal-skip-damaged       start although records of the write-behind log are damaged, without them; says which bytes
  --check-config           read and check the settings, then exit: 0 if they are valid, 2 if not
  --print-config           print the settings as YAML, secrets redacted, then exit
  --version                print the version, then exit
  --help                   print this, then exit

Flags win over environment variables (NEARCACHED_L1__MAX_BYTES=200MB), those over the file, that over the defaults.
)";
}

}  // namespace nearcached::config
