#include "loadtest/reply_skimmer.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <string_view>

using nearcached::loadtest::ReplySkimmer;

namespace {

ReplySkimmer::Counts feed_in_pieces(ReplySkimmer& skimmer, std::string_view bytes, std::size_t first_piece) {
  ReplySkimmer::Counts total = skimmer.feed(bytes.substr(0, first_piece));
  const ReplySkimmer::Counts rest = skimmer.feed(bytes.substr(first_piece));
  total.replies += rest.replies;
  total.nulls += rest.nulls;
  total.errors += rest.errors;
  return total;
}

// 16 replies; at the top level 3 are null and 1 is an error.
constexpr std::string_view kEverything =
    "+OK\r\n:-12\r\n$5\r\na\r\nbc\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n*3\r\n$1\r\nx\r\n$-1\r\n*2\r\n:1\r\n:2\r\n"
    "-ERR no such thing\r\n_\r\n,1.5\r\n#t\r\n(123456789012345678901234567890\r\n=7\r\ntxt:abc\r\n"
    "%2\r\n+a\r\n*1\r\n:1\r\n+b\r\n-inner\r\n~2\r\n:1\r\n:2\r\n";

}  // namespace

TEST_CASE("every type counts as one reply, wherever the stream is cut") {
  ReplySkimmer whole;
  const ReplySkimmer::Counts expected = whole.feed(kEverything);
  CHECK(expected.replies == 16);
  CHECK(expected.nulls == 3);
  CHECK(expected.errors == 1);
  for (std::size_t cut = 0; cut <= kEverything.size(); ++cut) {
    ReplySkimmer skimmer;
    const ReplySkimmer::Counts counts = feed_in_pieces(skimmer, kEverything, cut);
    INFO("cut at " << cut);
    CHECK(counts.replies == expected.replies);
    CHECK(counts.nulls == expected.nulls);
    CHECK(counts.errors == expected.errors);
    CHECK_FALSE(skimmer.malformed());
  }
}

TEST_CASE("byte by byte gives the same") {
  ReplySkimmer skimmer;
  std::uint64_t replies = 0;
  for (const char& byte : kEverything) {
    replies += skimmer.feed({&byte, 1}).replies;
  }
  CHECK(replies == 16);
}

TEST_CASE("a bulk that looks like replies is skipped as what it is") {
  ReplySkimmer skimmer;
  const auto counts = skimmer.feed("$13\r\n+OK\r\n-ERR x\r\n\r\n+OK\r\n");
  CHECK(counts.replies == 2);
  CHECK(counts.errors == 0);
}

TEST_CASE("pushes are no replies") {
  ReplySkimmer skimmer;
  const auto counts = skimmer.feed(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n+OK\r\n>1\r\n+x\r\n");
  CHECK(counts.replies == 1);
}

TEST_CASE("the first error's text is kept, also when it is longer than a line may be") {
  ReplySkimmer skimmer;
  const auto counts = skimmer.feed("-ERR " + std::string(10'000, 'x') + "\r\n-SECOND\r\n+OK\r\n");
  CHECK(counts.replies == 3);
  CHECK(counts.errors == 2);
  CHECK(skimmer.first_error().starts_with("ERR xxx"));
  CHECK(skimmer.first_error().size() < 200);
}

TEST_CASE("what is not RESP is noticed") {
  for (const std::string_view bytes : {"HTTP/1.1 200 OK\r\n", "$abc\r\n", "$-2\r\n", "*x\r\n", "\r\n",
                                       "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"}) {
    ReplySkimmer skimmer;
    skimmer.feed(bytes);
    INFO(bytes);
    CHECK(skimmer.malformed());
  }
}
