#include "tiers/l1/variants.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace nearcached::tiers::l1;

namespace {

constexpr std::size_t kNoLimit = SIZE_MAX;

// Exactly as large as it says, so that the sanitizers see a step too far.
class Block {
 public:
  explicit Block(const VariantPayload& payload) : size_(payload.bytes()), bytes_(std::make_unique<char[]>(size_)) {
    payload.write(bytes_.get());
  }
  [[nodiscard]] std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  std::size_t size_;
  std::unique_ptr<char[]> bytes_;
};

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs pairs_of(VariantCursor cursor) {
  Pairs pairs;
  while (cursor.left() != 0) {
    const Variant variant = cursor.next();
    pairs.emplace_back(variant.name, variant.reply.bytes);
  }
  return pairs;
}

Block merge(VariantCursor older, const Variant& fresh, std::size_t content_max = kNoLimit) {
  VariantPayload payload(fresh);
  payload.keep(older, content_max);
  return Block(payload);
}

Block table_of(const Pairs& pairs) {
  VariantPayload first({pairs[0].first, pairs[0].second});
  Block block(first);
  for (std::size_t i = 1; i < pairs.size(); ++i)
    block = merge(i == 1 && first.plain() ? VariantCursor::of_reply(block.view()) : VariantCursor::of_table(block.view()),
                  {pairs[i].first, pairs[i].second});
  return block;
}

Pairs numbered(std::size_t count) {
  Pairs pairs;
  for (std::size_t i = 0; i < count; ++i) pairs.emplace_back("name" + std::to_string(i), "reply" + std::to_string(i));
  return pairs;
}

}  // namespace

TEST_CASE("a lone reply of the empty name is written bare") {
  const VariantPayload payload({"", "$1\r\nv\r\n"});
  CHECK(payload.plain());
  CHECK_FALSE(payload.merged());
  CHECK(payload.bytes() == 7);
  CHECK(Block(payload).view() == "$1\r\nv\r\n");
  CHECK(pairs_of(VariantCursor::of_reply("bare")) == Pairs{{"", "bare"}});
}

TEST_CASE("a lone reply of another name is a table of one, 14 bytes beyond name and reply") {
  const VariantPayload payload({"strlen", ":3\r\n"});
  CHECK_FALSE(payload.plain());
  CHECK(payload.bytes() == 14 + 6 + 4);
  const Block block(payload);
  CHECK(find_variant(block.view(), "strlen") == ":3\r\n");
  CHECK_FALSE(find_variant(block.view(), ""));
  CHECK_FALSE(find_variant(block.view(), "strle"));
  CHECK_FALSE(find_variant(block.view(), "strlenx"));
}

TEST_CASE("names that share beginnings, lengths, or bytes with their neighbours' replies are told apart") {
  const Pairs pairs = {{"", "get"},  {"a", "b"},  {"b", "a"},   {"ab", ""},  {"ba", "ab"}, {std::string("\0", 1), "nul"},
                       {"aa", "\0"}, {"abc", ""}, {"abd", "x"}, {"get", ""}, {"nul", "aa"}};
  const Block block = table_of(pairs);
  CHECK(pairs_of(VariantCursor::of_table(block.view())) == pairs);
  for (const auto& [name, reply] : pairs) CHECK(find_variant(block.view(), name) == reply);
  for (const char* absent : {"c", "abe", "bb", "ac", "x", "getb"}) CHECK_FALSE(find_variant(block.view(), absent));
  CHECK_FALSE(find_variant(block.view(), std::string(2, '\0')));
}

TEST_CASE("a merge replaces the same name, which becomes the youngest") {
  const Block block = table_of(numbered(4));
  const Block merged = merge(VariantCursor::of_table(block.view()), {"name1", "again"});
  CHECK(pairs_of(VariantCursor::of_table(merged.view())) ==
        Pairs{{"name0", "reply0"}, {"name2", "reply2"}, {"name3", "reply3"}, {"name1", "again"}});
}

TEST_CASE("nothing is kept of an older entry that holds the same name alone") {
  VariantPayload get({"", "new"});
  get.keep(VariantCursor::of_reply("old"), kNoLimit);
  CHECK(get.plain());
  CHECK_FALSE(get.merged());
  CHECK(Block(get).view() == "new");

  const Block older = table_of({{"strlen", ":3\r\n"}});
  VariantPayload same({"strlen", ":4\r\n"});
  same.keep(VariantCursor::of_table(older.view()), kNoLimit);
  CHECK_FALSE(same.merged());
  CHECK(pairs_of(VariantCursor::of_table(Block(same).view())) == Pairs{{"strlen", ":4\r\n"}});
}

TEST_CASE("one more than fits by number drops the oldest, whether or not the new name was there") {
  const Block full = table_of(numbered(kVariantsMax));
  REQUIRE(VariantCursor::of_table(full.view()).left() == kVariantsMax);
  const Block another = merge(VariantCursor::of_table(full.view()), {"another", "reply"});
  CHECK(VariantCursor::of_table(another.view()).left() == kVariantsMax);
  CHECK_FALSE(find_variant(another.view(), "name0"));
  CHECK(find_variant(another.view(), "name1"));
  CHECK(find_variant(another.view(), "another"));

  const Block replaced = merge(VariantCursor::of_table(full.view()), {"name0", "again"});
  CHECK(VariantCursor::of_table(replaced.view()).left() == kVariantsMax);
  CHECK(find_variant(replaced.view(), "name0") == "again");
  CHECK(find_variant(replaced.view(), "name1"));
}

TEST_CASE("the oldest go until names and replies are within the bound, to the byte") {
  const Block older = table_of({{"a", "1234"}, {"b", "1234"}, {"c", "1234"}});
  const auto kept = [&](const Variant& fresh, std::size_t content_max) {
    const Block merged = merge(VariantCursor::of_table(older.view()), fresh, content_max);
    std::string names;
    for (const auto& [name, reply] : pairs_of(VariantCursor::of_table(merged.view()))) names += name;
    return names;
  };
  CHECK(kept({"d", "1234"}, 20) == "abcd");
  CHECK(kept({"d", "1234"}, 19) == "bcd");
  CHECK(kept({"d", "1234"}, 15) == "bcd");
  CHECK(kept({"d", "1234"}, 14) == "cd");
  CHECK(kept({"d", "1234"}, 5) == "d");
  CHECK(kept({"d", "1234"}, 0) == "d");
  CHECK(kept({"a", "1234"}, 15) == "bca");
  CHECK(kept({"a", "12345"}, 15) == "ca");
  CHECK(kept({"b", "123456789"}, 15) == "cb");
}

TEST_CASE("a GET that pushes all others out leaves a bare reply") {
  const Block older = table_of({{"a", "1234"}, {"b", "1234"}});
  VariantPayload payload({"", "0123456789"});
  payload.keep(VariantCursor::of_table(older.view()), 10);
  CHECK(payload.plain());
  CHECK_FALSE(payload.merged());
  CHECK(Block(payload).view() == "0123456789");
}

TEST_CASE("random merges agree with a plain list") {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    const std::size_t content_max = round % 2 == 0 ? kNoLimit : 50 + random() % 2000;
    Pairs model = {{"first", "reply"}};
    Block block = table_of(model);
    for (int i = 0; i < 300; ++i) {
      const std::string name(random() % 40, static_cast<char>('a' + random() % 4));
      const std::string reply(random() % 50, static_cast<char>('0' + random() % 10));
      std::erase_if(model, [&](const auto& pair) { return pair.first == name; });
      model.emplace_back(name, reply);
      const auto content = [&] {
        std::size_t sum = 0;
        for (const auto& pair : model) sum += pair.first.size() + pair.second.size();
        return sum;
      };
      while (model.size() > 1 && (model.size() > kVariantsMax || content() > content_max)) model.erase(model.begin());

      VariantPayload payload({name, reply});
      payload.keep(VariantCursor::of_table(block.view()), content_max);
      REQUIRE(payload.merged() == (model.size() > 1));
      // A bare reply of the empty name would need another cursor for the next round.
      if (payload.plain()) {
        model = {{"first", "reply"}};
        block = table_of(model);
        continue;
      }
      block = Block(payload);
      REQUIRE(pairs_of(VariantCursor::of_table(block.view())) == model);
      for (const auto& [kept, text] : model) REQUIRE(find_variant(block.view(), kept) == text);
    }
  }
}
