#include "tests/sim/history.hpp"

#include <algorithm>

namespace nearcached::sim {
namespace {

constexpr std::string_view kNil = "(nil)";

std::string field_of(const Value& value, std::string_view field) {
  std::string_view rest = std::string_view(value).substr(1);
  while (!rest.empty()) {
    const std::size_t equals = rest.find('=');
    const std::size_t end = rest.find(';');
    if (rest.substr(0, equals) == field) return std::string(rest.substr(equals + 1, end - equals - 1));
    rest.remove_prefix(end + 1);
  }
  return std::string(kNil);
}

const std::vector<History::Version> kNeverSet{{"", 0}};

}  // namespace

std::string observe(ReadKind kind, const Value& value) {
  switch (kind) {
    case ReadKind::kGet: return value.empty() ? std::string(kNil) : value.substr(1);
    case ReadKind::kGetRange: return value.empty() ? std::string() : value.substr(1);
    case ReadKind::kExists: return value.empty() ? "0" : "1";
    case ReadKind::kHashField: return value.empty() ? std::string(kNil) : field_of(value, "f");
    case ReadKind::kHashAll: return value.empty() ? std::string() : value.substr(1);
  }
  return {};
}

const std::vector<History::Version>& History::of(const std::string& key) const {
  const auto found = versions_.find(key);
  return found == versions_.end() ? kNeverSet : found->second;
}

void History::set(const std::string& key, const Value& value, std::int64_t now_us) {
  std::vector<Version>& versions = versions_.try_emplace(key, kNeverSet).first->second;
  if (versions.back().value != value) versions.push_back({value, now_us});
}

const Value& History::present(const std::string& key) const { return of(key).back().value; }

std::optional<std::size_t> History::earliest(const std::string& key, ReadKind kind, const std::string& got,
                                             std::int64_t low_us, std::int64_t high_us, std::size_t floor) const {
  const std::vector<Version>& versions = of(key);
  for (std::size_t at = floor; at < versions.size() && versions[at].from_us <= high_us; ++at) {
    const std::int64_t until_us = at + 1 < versions.size() ? versions[at + 1].from_us : kNeverUs;
    if (until_us >= low_us && observe(kind, versions[at].value) == got) return at;
  }
  return std::nullopt;
}

std::size_t History::place_at(const std::string& key, std::int64_t when_us) const {
  const std::vector<Version>& versions = of(key);
  std::size_t place = 0;
  while (place + 1 < versions.size() && versions[place + 1].from_us <= when_us) ++place;
  return place;
}

std::size_t History::floor(int sidecar, const std::string& key) const {
  const auto& floors = floors_[static_cast<std::size_t>(sidecar)];
  const auto found = floors.find(key);
  return found == floors.end() ? 0 : found->second;
}

void History::raise_floor(int sidecar, const std::string& key, std::size_t place) {
  std::size_t& floor = floors_[static_cast<std::size_t>(sidecar)][key];
  floor = std::max(floor, place);
}

std::string History::describe(const std::string& key, std::int64_t low_us, std::int64_t high_us) const {
  const std::vector<Version>& versions = of(key);
  std::string text;
  for (std::size_t at = 0; at < versions.size(); ++at) {
    const bool after = versions[at].from_us > high_us + 1'000'000;
    const bool before = at + 2 < versions.size() && versions[at + 2].from_us < low_us - 1'000'000;
    if (after || before) continue;
    const std::int64_t from_us = std::max<std::int64_t>(0, versions[at].from_us - Kernel::kStartUs);
    text += "    place " + std::to_string(at) + ": " + (versions[at].value.empty() ? "absent" : versions[at].value) +
            " since " + std::to_string(from_us / 1000) + "." + std::to_string(from_us % 1000 / 100) + " ms\n";
  }
  return text;
}

}  // namespace nearcached::sim
