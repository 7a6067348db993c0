#include "tiers/write_behind/record.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/unit/tiers/write_behind/support.hpp"

namespace nearcached::tiers::write_behind {
namespace {

using testing::append;
using testing::set_of;

TEST_CASE("records of every kind come back as they were, with sequences in a row", "[record]") {
  const std::string value(100'000, 'v');
  const std::string binary("\0\r\n\xff", 4);
  const std::vector<Record> records = {
      set_of("k", "v"),
      set_of("", ""),
      set_of(binary, binary, 1),
      set_of("large", value, -1),
      {RecordKind::kDelete, 15, 0, "gone", ""},
      {RecordKind::kExpire, 0, 1'800'000'000'000, "k", ""},
      {RecordKind::kSuperseded, 3, 0, "k", ""},
      {RecordKind::kSupersededAll, kAllDatabases, 0, "", ""},
  };
  Group group;
  group.first = 41;
  for (std::size_t i = 0; i < records.size(); ++i) CHECK(append(group, records[i]) == 41 + i);
  CHECK(group.records == records.size());

  std::string_view rest = group.bytes;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto parsed = parse_record(rest);
    REQUIRE(parsed);
    CHECK(parsed->sequence == 41 + i);
    CHECK(parsed->record == records[i]);
    CHECK(parsed->bytes == record_bytes(records[i]));
    rest.remove_prefix(parsed->bytes);
  }
  CHECK(rest.empty());
}

TEST_CASE("a record that is cut or of which one bit is wrong is none", "[record]") {
  Group group;
  append(group, set_of("key", "some value", 77));
  for (std::size_t size = 0; size < group.bytes.size(); ++size) REQUIRE_FALSE(parse_record(group.bytes.substr(0, size)));
  for (std::size_t bit = 0; bit < group.bytes.size() * 8; ++bit) {
    std::string damaged = group.bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    REQUIRE_FALSE(parse_record(damaged));
  }
}

TEST_CASE("a kind that is not known makes no record, whatever its checksum", "[record]") {
  for (const int kind : {0, 6, 255}) {
    Group group;
    append(group, {static_cast<RecordKind>(kind), 0, 0, "k", ""});
    CHECK_FALSE(parse_record(group.bytes));
  }
}

TEST_CASE("a group that is cleared goes on where it ended, and gives much memory back", "[record]") {
  Group group;
  append(group, set_of("k", std::string(2 * Group::kKeptBytes, 'v')));
  group.clear();
  CHECK(group.bytes.empty());
  CHECK(group.bytes.capacity() <= Group::kKeptBytes);
  CHECK(append(group, set_of("k", "v")) == 2);
}

}  // namespace
}  // namespace nearcached::tiers::write_behind
