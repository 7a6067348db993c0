#include "protocol/command_table.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <iterator>
#include <utility>

#include "protocol/ascii_case.hpp"

namespace nearcached::protocol {
namespace {

#include "protocol/commands.inc"

// A command name as three machine words, lower case, zero padded, the length in the top byte: comparing names is comparing
// words, and a name with a NUL in it equals none without. Built per request without a loop, so that a lookup costs the same
// for "GET" and for garbage.
constexpr std::size_t kNameBytesMax = 23;

struct PackedName {
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  std::uint64_t third = 0;
};

constexpr bool same(const PackedName& a, const PackedName& b) {
  return ((a.first ^ b.first) | (a.second ^ b.second) | (a.third ^ b.third)) == 0;  // one branch instead of three
}

static_assert(std::endian::native == std::endian::little, "pack() and pack_slowly() agree on little-endian machines only");

constexpr PackedName pack_slowly(std::string_view name) {
  std::uint64_t words[3] = {};
  for (std::size_t i = 0; i < name.size(); ++i) {
    const auto byte = static_cast<unsigned char>(ascii_lower(name[i]));
    words[i / 8] |= static_cast<std::uint64_t>(byte) << (8 * (i % 8));
  }
  return {words[0], words[1], words[2] | static_cast<std::uint64_t>(name.size()) << 56};
}

template <class Word>
std::uint64_t load(const char* from) {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

// 1 to 8 bytes; the two loads overlap, and overlapping bytes are equal, so that `or` joins them.
std::uint64_t load_up_to_8(const char* from, std::size_t bytes) {
  if (bytes == 8) return load<std::uint64_t>(from);
  if (bytes >= 4) return load<std::uint32_t>(from) | load<std::uint32_t>(from + bytes - 4) << (8 * (bytes - 4));
  if (bytes >= 2) return load<std::uint16_t>(from) | load<std::uint16_t>(from + bytes - 2) << (8 * (bytes - 2));
  return load<std::uint8_t>(from);
}

// Adds 0x20 to each byte that is 'A'..'Z', eight at a time; bytes from 0x80 on stay as they are.
std::uint64_t lower_8(std::uint64_t word) {
  constexpr std::uint64_t kEach = 0x0101010101010101u;
  const std::uint64_t seven_bits = word & (0x7f * kEach);
  const std::uint64_t above_z = seven_bits + (0x7f - 'Z') * kEach;
  const std::uint64_t from_a = seven_bits + (0x80 - 'A') * kEach;
  const std::uint64_t upper = (from_a ^ above_z) & ~word & (0x80 * kEach);
  return word | upper >> 2;
}

// 1 to kNameBytesMax bytes.
PackedName pack(std::string_view name) {
  const char* const text = name.data();
  const std::size_t bytes = name.size();
  const std::uint64_t length = static_cast<std::uint64_t>(bytes) << 56;
  if (bytes <= 8) return {lower_8(load_up_to_8(text, bytes)), 0, length};
  const std::uint64_t first = lower_8(load<std::uint64_t>(text));
  if (bytes <= 16) return {first, lower_8(load_up_to_8(text + 8, bytes - 8)), length};
  return {first, lower_8(load<std::uint64_t>(text + 8)), lower_8(load_up_to_8(text + 16, bytes - 16)) | length};
}

// Open addressing with linear probing, filled by the compiler: four slots per name keep the longest probe short without a
// searched-for perfect hash that every new command would have to be searched for again.
constexpr std::size_t kCommandCount = std::size(kCommands);
constexpr int kSlotBits = 10;
constexpr std::size_t kSlots = std::size_t{1} << kSlotBits;
constexpr std::uint16_t kEmptySlot = 0xffff;
static_assert(kCommandCount * 4 <= kSlots, "a fuller table means longer probes: raise kSlotBits");

// The multiplier is the best of 3000 random ones for these names: two probes at most.
constexpr std::size_t home_slot(const PackedName& name) {
  const std::uint64_t mixed = name.first ^ std::rotl(name.second, 29) ^ std::rotl(name.third, 7);
  return static_cast<std::size_t>((mixed * 0x721754ef2904acedu) >> (64 - kSlotBits));
}

struct NameIndex {
  std::array<PackedName, kCommandCount> names;
  std::array<std::uint16_t, kSlots> slots;  // position in kCommands, or kEmptySlot
  std::size_t probes_max = 0;               // the most slots that finding a name takes
};

constexpr NameIndex make_name_index() {
  NameIndex index{};
  index.slots.fill(kEmptySlot);
  for (std::size_t i = 0; i < kCommandCount; ++i) {
    index.names[i] = pack_slowly(kCommands[i].name);
    std::size_t slot = home_slot(index.names[i]);
    std::size_t probes = 1;
    for (; index.slots[slot] != kEmptySlot; ++probes) slot = (slot + 1) % kSlots;
    index.slots[slot] = static_cast<std::uint16_t>(i);
    index.probes_max = std::max(index.probes_max, probes);
  }
  return index;
}

constexpr NameIndex kNameIndex = make_name_index();
static_assert(kNameIndex.probes_max <= 4, "names cluster: choose another multiplier in home_slot");

constexpr std::pair<std::string_view, CommandFlag> kFlagWords[] = {
    {"write", kFlagWrite},
    {"readonly", kFlagReadonly},
    {"denyoom", kFlagDenyOom},
    {"admin", kFlagAdmin},
    {"pubsub", kFlagPubsub},
    {"noscript", kFlagNoscript},
    {"blocking", kFlagBlocking},
    {"loading", kFlagLoading},
    {"stale", kFlagStale},
    {"no_auth", kFlagNoAuth},
    {"may_replicate", kFlagMayReplicate},
    {"movablekeys", kFlagMovableKeys},
    {"fast", kFlagFast},
    {"no_mandatory_keys", kFlagNoMandatoryKeys},
};

std::uint32_t flag_of(std::string_view word) {
  const auto* const found =
      std::find_if(std::begin(kFlagWords), std::end(kFlagWords), [word](const auto& pair) { return pair.first == word; });
  return found == std::end(kFlagWords) ? 0u : found->second;
}

Handling handling_of_unlisted(const Command& command) {
  if (command.has(kFlagBlocking)) return Handling::kPinned;
  return command.first_key != 0 || command.has(kFlagMovableKeys) ? Handling::kForward : Handling::kAnyNode;
}

}  // namespace

const Command* find_command(std::string_view name) {
  if (name.empty() || name.size() > kNameBytesMax) return nullptr;
  const PackedName wanted = pack(name);
  std::size_t slot = home_slot(wanted);
  for (std::size_t probe = 0; probe < kNameIndex.probes_max; ++probe) {
    const std::uint16_t position = kNameIndex.slots[slot];
    if (position == kEmptySlot) return nullptr;
    if (same(kNameIndex.names[position], wanted)) return &kCommands[position];
    slot = (slot + 1) % kSlots;
  }
  return nullptr;
}

const Command* find_subcommand(const Command& container, std::string_view name) {
  const std::size_t prefix = container.name.size() + 1;  // "client|"
  for (const Command& subcommand : container.subcommands) {
    if (equal_ignoring_case(subcommand.name.substr(prefix), name)) return &subcommand;
  }
  return nullptr;
}

std::span<const Command> all_commands() { return kCommands; }

bool may_write(const Command& command) {
  return (command.has(kFlagWrite) || command.has(kFlagMayReplicate)) && !command.has(kFlagChangesNoKey);
}

bool write_keys_known(const Command& command) {
  if (!may_write(command)) return true;
  if (command.key_grammar != KeyGrammar::kSpecs) return true;
  if (!command.has(kFlagMovableKeys)) return command.first_key != 0;
  return !command.key_specs.empty() &&
         std::none_of(command.key_specs.begin(), command.key_specs.end(), [](const KeySpec& spec) {
           return spec.incomplete || spec.begin == KeySpec::Begin::kUnknown || spec.find == KeySpec::Find::kUnknown;
         });
}

bool cacheable(const Command& command, std::span<const std::string_view> args) {
  if (command.caching == Caching::kNever || !command.arity_fits(args.size())) return false;
  return command.last_key == command.first_key || args.size() == 2;
}

void append_variant(std::string& variant, const Command& command, std::span<const std::string_view> args) {
  if (command.name == "get") return;
  variant += command.name;
  for (std::size_t i = 2; i < args.size(); ++i) {
    char length[20];
    const char* const end = std::to_chars(length, length + sizeof length, args[i].size()).ptr;
    variant += ' ';
    variant.append(length, static_cast<std::size_t>(end - length));
    variant += ':';
    variant += args[i];
  }
}

DynamicCommand::DynamicCommand(std::string name, std::int16_t arity, const std::vector<std::string>& flags,
                               std::int16_t first_key, std::int16_t last_key, std::int16_t key_step)
    : name_(std::move(name)) {
  std::transform(name_.begin(), name_.end(), name_.begin(), ascii_lower);
  command_.name = name_;
  command_.arity = arity;
  for (const std::string& word : flags) command_.flags |= flag_of(word);
  command_.first_key = first_key;
  command_.last_key = last_key;
  command_.key_step = key_step;
  command_.handling = handling_of_unlisted(command_);
}

}  // namespace nearcached::protocol
