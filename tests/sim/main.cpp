// nearcached_sim: runs schedules, replays and shrinks those that fail, and takes rules out.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "tests/sim/mutations.hpp"
#include "tests/sim/rule_names.hpp"
#include "tests/sim/shrink.hpp"
#include "tests/sim/simulation.hpp"

namespace nearcached::sim {
namespace {

constexpr int kShrinkTriesMax = 3000;

struct Arguments {
  std::uint64_t from = 1;
  std::uint64_t schedules = 1000;
  std::int64_t seconds = 0;  // 0: as many as there are schedules
  std::optional<Profile> profile;
  bool one = false;
  bool trace = false;
  bool shrink = true;
  bool keep_going = false;
  bool mutations = false;
  bool quick = false;
  std::string only;
};

void usage() {
  std::puts(
      "nearcached_sim [--from SEED] [--schedules N] [--seconds N] [--profile NAME] [--disable-rule NAME]...\n"
      "nearcached_sim --seed N [--profile NAME] [--trace] [--no-shrink] [--disable-rule NAME]...\n"
      "nearcached_sim --mutations [--rule NAME | --quick]\n"
      "Profiles: writes faults slots failover expiry server levels ttl bus past foreign; drawn from the seed where none is "
      "given.");
}

bool take_number(const char* text, std::uint64_t& number) {
  char* end = nullptr;
  number = std::strtoull(text, &end, 10);
  return *text != '\0' && *end == '\0';
}

// Arguments that have a value; false if it is no good.
bool take_valued(Arguments& arguments, std::string_view name, const char* value) {
  std::uint64_t number = 0;
  if (name == "--profile") {
    arguments.profile = profile_of(value);
    return arguments.profile.has_value();
  }
  if (name == "--disable-rule" || name == "--rule") {
    const auto rule = rule_of(value);
    if (!rule) return false;
    if (name == "--rule") {
      arguments.only = value;
    } else {
      tiers::coherence::disabled_rules |= tiers::coherence::rule_bit(*rule);
    }
    return true;
  }
  if (!take_number(value, number)) return false;
  if (name == "--seed") {
    arguments.from = number;
    arguments.schedules = 1;
    arguments.one = true;
  } else if (name == "--from") {
    arguments.from = number;
  } else if (name == "--schedules") {
    arguments.schedules = number;
  } else if (name == "--seconds") {
    arguments.seconds = static_cast<std::int64_t>(number);
    arguments.schedules = UINT64_MAX;
  } else {
    return false;
  }
  return true;
}

bool take_arguments(int argc, char** argv, Arguments& arguments) {
  for (int at = 1; at < argc; ++at) {
    const std::string_view name = argv[at];
    if (name == "--trace") {
      arguments.trace = true;
    } else if (name == "--no-shrink") {
      arguments.shrink = false;
    } else if (name == "--keep-going") {
      arguments.keep_going = true;
    } else if (name == "--mutations") {
      arguments.mutations = true;
    } else if (name == "--quick") {
      arguments.quick = true;
    } else if (at + 1 == argc || !take_valued(arguments, name, argv[++at])) {
      return false;
    }
  }
  return true;
}

void print_script(const Script& script) {
  std::printf("  profile %s, %s, %d sidecars with %d workers, table of %zu keys\n",
              std::string(profile_name(script.profile)).c_str(), script.world.model.cluster ? "cluster" : "one server",
              script.world.sidecars, script.world.workers, script.world.tracking_keys_max);
  for (const Action& action : script.actions) {
    std::printf("    %s\n", action.describe(script.world.model.keys).c_str());
  }
}

void report(const Script& script, const Outcome& outcome, const Arguments& arguments) {
  const std::string profile(profile_name(script.profile));
  std::printf("FAILED  seed %llu  (--seed %llu --profile %s)\n%s\n", static_cast<unsigned long long>(script.seed),
              static_cast<unsigned long long>(script.seed), profile.c_str(), outcome.failure.c_str());
  Script least = script;
  if (arguments.shrink) {
    least = shrink(
        script, [](const Script& candidate) { return !simulate(candidate).failure.empty(); }, kShrinkTriesMax);
    std::printf("shrunk to %zu of %zu actions:\n", least.actions.size(), script.actions.size());
  }
  print_script(least);
  const Outcome again = simulate(least, true);
  std::printf("which fails so:\n%s\n", again.failure.c_str());
  if (!arguments.trace) {
    std::puts("the trace: add --trace");
    return;
  }
  for (const std::string& line : again.trace) std::puts(line.c_str());
}

int run(const Arguments& arguments) {
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  std::uint64_t done = 0;
  std::uint64_t failed = 0;
  Outcome sum;
  for (; done < arguments.schedules; ++done) {
    if (arguments.seconds != 0 && elapsed() >= static_cast<double>(arguments.seconds)) break;
    const Script script = make_script(arguments.from + done, arguments.profile);
    const Outcome outcome = simulate(script);
    sum.reads += outcome.reads;
    sum.hits += outcome.hits;
    sum.errors += outcome.errors;
    sum.events += outcome.events;
    sum.hash = sum.hash * 31 + outcome.hash;
    if (outcome.failure.empty()) {
      if (arguments.one && arguments.trace) {
        for (const std::string& line : simulate(script, true).trace) std::puts(line.c_str());
      }
      continue;
    }
    ++failed;
    if (arguments.keep_going) {
      std::printf("seed %llu --profile %s: %s\n", static_cast<unsigned long long>(script.seed),
                  std::string(profile_name(script.profile)).c_str(),
                  outcome.failure.substr(0, outcome.failure.find('\n')).c_str());
    } else {
      report(script, outcome, arguments);
      return 1;
    }
  }
  const double seconds = elapsed();
  std::printf(
      "%llu schedules in %.1f s (%.0f a second), %llu failed; %llu reads judged, %llu hits, %llu errors, %llu events; "
      "hash %016llx\n",
      static_cast<unsigned long long>(done), seconds, static_cast<double>(done) / seconds,
      static_cast<unsigned long long>(failed), static_cast<unsigned long long>(sum.reads),
      static_cast<unsigned long long>(sum.hits), static_cast<unsigned long long>(sum.errors),
      static_cast<unsigned long long>(sum.events), static_cast<unsigned long long>(sum.hash));
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace nearcached::sim

int main(int argc, char** argv) {
  nearcached::sim::Arguments arguments;
  if (!nearcached::sim::take_arguments(argc, argv, arguments)) {
    nearcached::sim::usage();
    return 2;
  }
  if (arguments.mutations) return nearcached::sim::run_mutations(arguments.only, arguments.quick) == 0 ? 0 : 1;
  return nearcached::sim::run(arguments);
}
