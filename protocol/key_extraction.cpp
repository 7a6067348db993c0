// Where the keys of a call are. The rules are those of Redis's getKeysFromCommandWithSpecs (db.c) and of the commands' own
// option parsers; key specifications: https://redis.io/docs/latest/develop/reference/key-specs/
#include <algorithm>
#include <optional>

#include "protocol/ascii_case.hpp"
#include "protocol/command_table.hpp"
#include "protocol/decimal.hpp"

namespace nearcached::protocol {
namespace {

using Args = std::span<const std::string_view>;
using Positions = std::vector<std::uint32_t>;

bool is_word(std::string_view arg, std::string_view word) { return equal_ignoring_case(arg, word); }

// Keys at first, first + step ... up to last. False unless first and last are arguments behind the name, in this order.
bool append_range(std::int64_t first, std::int64_t last, std::int64_t step, Args args, Positions& positions) {
  if (first < 1 || last < first || last >= static_cast<std::int64_t>(args.size()) || step < 1) return false;
  for (std::int64_t i = first; i <= last; i += step) positions.push_back(static_cast<std::uint32_t>(i));
  return true;
}

bool keys_by_triple(const Command& command, Args args, Positions& positions) {
  const bool keys_left_out = std::ssize(args) <= command.first_key && command.arity_fits(args.size());
  if (keys_left_out) return true;  // SUNSUBSCRIBE: from all channels
  const std::int64_t last = command.last_key >= 0 ? command.last_key : std::ssize(args) + command.last_key;
  return append_range(command.first_key, last, command.key_step, args, positions);
}

// The argument behind the specification's keyword, or nothing. The keyword as the last argument does not count: no key
// could follow.
std::optional<std::int64_t> behind_keyword(const KeySpec& spec, Args args) {
  const std::int64_t step = spec.index > 0 ? 1 : -1;
  const std::int64_t last_keyword = std::ssize(args) - 2;
  const std::int64_t start = spec.index > 0 ? spec.index : std::min(last_keyword, std::ssize(args) + spec.index);
  for (std::int64_t i = start; i >= 1 && i <= last_keyword; i += step) {
    if (is_word(args[static_cast<std::size_t>(i)], spec.keyword)) return i + 1;
  }
  return std::nullopt;
}

// The keys whose number stands among the arguments, as in EVAL and ZUNION.
bool keys_by_count(const Command& command, const KeySpec& spec, std::int64_t begin, Args args, Positions& positions) {
  const std::int64_t at = begin + spec.keynum_index;
  if (at < 1 || at >= std::ssize(args)) return false;
  const std::optional<std::int64_t> keys = parse_decimal(args[static_cast<std::size_t>(at)]);
  if (!keys || *keys < 0 || *keys > std::ssize(args)) return false;
  if (*keys == 0) return command.has(kFlagNoMandatoryKeys);
  const std::int64_t first = begin + spec.first_key;
  return append_range(first, first + (*keys - 1) * spec.step, spec.step, args, positions);
}

std::int64_t last_of_range(const KeySpec& spec, std::int64_t begin, std::int64_t arg_count) {
  if (spec.last_key >= 0) return begin + spec.last_key;
  if (spec.limit > 1) return begin + (arg_count - begin) / spec.limit + spec.last_key;
  return arg_count + spec.last_key;
}

bool keys_by_spec(const Command& command, const KeySpec& spec, Args args, Positions& positions) {
  if (spec.incomplete || spec.begin == KeySpec::Begin::kUnknown || spec.find == KeySpec::Find::kUnknown) return false;
  std::int64_t begin = spec.index;
  if (spec.begin == KeySpec::Begin::kKeyword) {
    const std::optional<std::int64_t> found = behind_keyword(spec, args);
    if (!found) return true;  // an option that this call does not use
    begin = *found;
  }
  if (spec.find == KeySpec::Find::kKeynum) return keys_by_count(command, spec, begin, args, positions);
  return append_range(begin, last_of_range(spec, begin, std::ssize(args)), spec.step, args, positions);
}

bool keys_by_specs(const Command& command, Args args, Positions& positions) {
  for (const KeySpec& spec : command.key_specs) {
    if (!keys_by_spec(command, spec, args, positions)) return false;
  }
  return true;
}

// The last STORE counts, as it does for SORT. (COMMAND GETKEYS takes the destination of "STORE store" for another STORE;
// SORT itself does not, and neither do we.)
bool keys_of_sort(Args args, Positions& positions) {
  if (args.size() < 2) return false;
  positions.push_back(1);
  std::size_t destination = 0;
  for (std::size_t i = 2; i < args.size(); ++i) {
    if (is_word(args[i], "limit")) {
      i += 2;
    } else if (is_word(args[i], "by") || is_word(args[i], "get")) {
      i += 1;
    } else if (is_word(args[i], "store") && i + 1 < args.size()) {
      destination = ++i;
    }
  }
  if (destination != 0) positions.push_back(static_cast<std::uint32_t>(destination));
  return true;
}

bool keys_of_migrate(Args args, Positions& positions) {
  constexpr std::size_t kKeyArg = 3;
  constexpr std::size_t kFirstOption = 6;
  if (args.size() < kFirstOption) return false;
  for (std::size_t i = kFirstOption; i < args.size(); ++i) {
    if (is_word(args[i], "keys")) {
      if (!args[kKeyArg].empty()) return false;
      if (i + 1 == args.size()) break;  // no keys at all: Redis goes by the empty key argument and answers NOKEY
      return append_range(static_cast<std::int64_t>(i) + 1, std::ssize(args) - 1, 1, args, positions);
    }
    if (is_word(args[i], "auth")) {
      i += 1;
    } else if (is_word(args[i], "auth2")) {
      i += 2;
    }
  }
  positions.push_back(kKeyArg);
  return true;
}

struct StreamOptions {
  std::size_t streams = 0;  // position of STREAMS; 0: none, or a word before it that is no option
  bool block = false;
};

// The options of XREAD and XREADGROUP. Read word by word and not searched for, because a group may be called "block" and a
// consumer "streams".
StreamOptions read_stream_options(Args args) {
  StreamOptions options;
  for (std::size_t i = 1; i + 1 < args.size(); ++i) {
    if (is_word(args[i], "streams")) {
      options.streams = i;
      return options;
    }
    if (is_word(args[i], "block")) {
      options.block = true;
      i += 1;
    } else if (is_word(args[i], "count")) {
      i += 1;
    } else if (is_word(args[i], "group")) {
      i += 2;
    } else if (!is_word(args[i], "noack")) {
      return options;
    }
  }
  return options;
}

bool keys_of_streams(Args args, Positions& positions) {
  const std::size_t streams = read_stream_options(args).streams;
  if (streams == 0) return false;
  const std::size_t keys_and_ids = args.size() - streams - 1;
  if (keys_and_ids % 2 != 0) return false;
  const auto first = static_cast<std::int64_t>(streams) + 1;
  return append_range(first, first + static_cast<std::int64_t>(keys_and_ids / 2) - 1, 1, args, positions);
}

bool find_keys(const Command& command, Args args, Positions& positions) {
  switch (command.key_grammar) {
    case KeyGrammar::kSort: return keys_of_sort(args, positions);
    case KeyGrammar::kMigrate: return keys_of_migrate(args, positions);
    case KeyGrammar::kStreams: return keys_of_streams(args, positions);
    case KeyGrammar::kSpecs: break;
  }
  if (command.has(kFlagMovableKeys) && !command.key_specs.empty()) return keys_by_specs(command, args, positions);
  if (command.first_key != 0) return keys_by_triple(command, args, positions);
  return !command.has(kFlagMovableKeys);
}

}  // namespace

bool extract_keys(const Command& command, std::span<const std::string_view> args, std::vector<std::uint32_t>& positions) {
  positions.clear();
  if (find_keys(command, args, positions)) return true;
  positions.clear();
  return false;
}

bool needs_own_connection(const Command& command, std::span<const std::string_view> args) {
  if (command.handling == Handling::kPinned) return true;
  return command.has(kFlagBlocksByOption) && read_stream_options(args).block;
}

}  // namespace nearcached::protocol
