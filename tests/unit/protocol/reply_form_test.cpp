#include "protocol/reply_form.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/reply_framer.hpp"

namespace nearcached::protocol {
namespace {

using namespace std::string_literals;

constexpr Resp2Form kForms[] = {Resp2Form::kPlain, Resp2Form::kNullArray, Resp2Form::kPairsFlat};
constexpr std::string_view kBefore = "+earlier\r\n";

// What is appended behind `kBefore`, or "refused". The reply is read from memory of exactly its size, so that the address
// sanitizer sees a read of one byte too many.
std::string converted(Resp2Form form, std::string_view reply) {
  const auto exact = std::make_unique<char[]>(reply.size());
  std::copy(reply.begin(), reply.end(), exact.get());
  std::string out(kBefore);
  const bool done = append_as_resp2(out, form, {exact.get(), reply.size()});
  REQUIRE(out.starts_with(kBefore));
  if (!done) {
    REQUIRE(out == kBefore);
    return "refused";
  }
  return out.substr(kBefore.size());
}

std::string plain(std::string_view reply) { return converted(Resp2Form::kPlain, reply); }

bool refused_in_every_form(std::string_view reply) {
  for (const Resp2Form form : kForms) {
    if (converted(form, reply) != "refused") return false;
  }
  return true;
}

struct Example {
  Resp2Form form;
  std::string resp3;
  std::string resp2;
};

const std::vector<Example>& examples() {
  static const std::vector<Example> all = {
      {Resp2Form::kPlain, "$5\r\nhello\r\n", "$5\r\nhello\r\n"},
      {Resp2Form::kPlain, "$0\r\n\r\n", "$0\r\n\r\n"},
      {Resp2Form::kPlain, "$9\r\n\r\n\0_\r\n$-1\r\n"s, "$9\r\n\r\n\0_\r\n$-1\r\n"s},
      {Resp2Form::kPlain, ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"},
      {Resp2Form::kPlain, "+zset\r\n", "+zset\r\n"},
      {Resp2Form::kPlain, "_\r\n", "$-1\r\n"},
      {Resp2Form::kNullArray, "_\r\n", "*-1\r\n"},
      {Resp2Form::kPairsFlat, "_\r\n", "$-1\r\n"},
      {Resp2Form::kPlain, ",inf\r\n", "$3\r\ninf\r\n"},
      {Resp2Form::kPlain, ",-0\r\n", "$2\r\n-0\r\n"},
      {Resp2Form::kPlain, ",1.0000000000000001e+300\r\n", "$23\r\n1.0000000000000001e+300\r\n"},
      {Resp2Form::kPlain, "#t\r\n", ":1\r\n"},
      {Resp2Form::kPlain, "#f\r\n", ":0\r\n"},
      {Resp2Form::kPlain, "*0\r\n", "*0\r\n"},
      {Resp2Form::kPlain, "~0\r\n", "*0\r\n"},
      {Resp2Form::kPlain, "%0\r\n", "*0\r\n"},
      {Resp2Form::kPlain, "*3\r\n$1\r\na\r\n_\r\n,1\r\n", "*3\r\n$1\r\na\r\n$-1\r\n$1\r\n1\r\n"},
      {Resp2Form::kPlain, "~2\r\n$1\r\na\r\n$0\r\n\r\n", "*2\r\n$1\r\na\r\n$0\r\n\r\n"},
      {Resp2Form::kPlain, "%2\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n_\r\n", "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$-1\r\n"},
      {Resp2Form::kPlain,
       "%5\r\n" + "$1\r\na\r\n:1\r\n"s + "$1\r\nb\r\n~1\r\n:2\r\n" + "$1\r\nc\r\n%1\r\n#t\r\n,2\r\n" + "$1\r\nd\r\n*0\r\n" +
           "$1\r\ne\r\n%0\r\n",
       "*10\r\n" + "$1\r\na\r\n:1\r\n"s + "$1\r\nb\r\n*1\r\n:2\r\n" + "$1\r\nc\r\n*2\r\n:1\r\n$1\r\n2\r\n" +
           "$1\r\nd\r\n*0\r\n" + "$1\r\ne\r\n*0\r\n"},
      {Resp2Form::kPlain, "*1\r\n*3\r\n$1\r\np\r\n:7\r\n*2\r\n,1.5\r\n,2\r\n",
       "*1\r\n*3\r\n$1\r\np\r\n:7\r\n*2\r\n$3\r\n1.5\r\n$1\r\n2\r\n"},
      {Resp2Form::kNullArray, "*2\r\n*2\r\n,1.5\r\n,2\r\n_\r\n", "*2\r\n*2\r\n$3\r\n1.5\r\n$1\r\n2\r\n*-1\r\n"},
      {Resp2Form::kPairsFlat, "*0\r\n", "*0\r\n"},
      {Resp2Form::kPairsFlat, "*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"},
      {Resp2Form::kPairsFlat, "*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,inf\r\n",
       "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$3\r\ninf\r\n"},
      {Resp2Form::kPairsFlat, "*1\r\n*2\r\n$4\r\n*2\r\n\r\n,1\r\n", "*2\r\n$4\r\n*2\r\n\r\n$1\r\n1\r\n"},
  };
  return all;
}

Resp2Form form_of(std::string_view name, std::vector<std::string_view> args) {
  const Command* const command = find_command(name);
  REQUIRE(command != nullptr);
  args.insert(args.begin(), name);
  return resp2_form(*command, args);
}

}  // namespace

TEST_CASE("replies without an order are the same in any order, others are not", "[reply_form]") {
  CHECK(same_elements("smembers", "~2\r\n$1\r\na\r\n$1\r\nb\r\n", "~2\r\n$1\r\nb\r\n$1\r\na\r\n"));
  CHECK_FALSE(same_elements("smembers", "~2\r\n$1\r\na\r\n$1\r\nb\r\n", "~2\r\n$1\r\na\r\n$1\r\nc\r\n"));
  CHECK_FALSE(same_elements("smembers", "~2\r\n$1\r\na\r\n$1\r\nb\r\n", "~1\r\n$1\r\na\r\n"));
  CHECK_FALSE(same_elements("smembers", "~0\r\n", "_\r\n"));
  CHECK_FALSE(same_elements("lrange 1:0 2:-1", "*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n$1\r\nb\r\n$1\r\na\r\n"));
  const std::string_view ab_cd = "%2\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n";
  CHECK(same_elements("hgetall", ab_cd, "%2\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\na\r\n$1\r\nb\r\n"));
  // The same elements, but other pairs.
  CHECK_FALSE(same_elements("hgetall", ab_cd, "%2\r\n$1\r\na\r\n$1\r\nd\r\n$1\r\nc\r\n$1\r\nb\r\n"));
}

TEST_CASE("a reply becomes what the same call answers a RESP2 client, behind what the output already holds") {
  for (const Example& example : examples()) {
    INFO(example.resp3);
    CHECK(converted(example.form, example.resp3) == example.resp2);
  }
}

TEST_CASE("a reply cut short anywhere is refused and leaves the output as it was") {
  for (const Example& example : examples()) {
    for (std::size_t bytes = 0; bytes < example.resp3.size(); ++bytes) {
      INFO("the first " << bytes << " bytes of " << example.resp3);
      CHECK(converted(example.form, std::string_view(example.resp3).substr(0, bytes)) == "refused");
    }
  }
}

TEST_CASE("bytes behind the reply are refused, also if they are a reply") {
  for (const Example& example : examples()) {
    INFO(example.resp3);
    for (const std::string_view more : {"\r", "\n", "\r\n", "x", ":1\r\n", "_\r\n", "*0\r\n"})
      CHECK(converted(example.form, example.resp3 + std::string(more)) == "refused");
  }
}

TEST_CASE("a reply that leads or is led by another byte of its head is never read past its end") {
  for (const Example& example : examples()) {
    for (std::size_t at = 0; at < example.resp3.size(); ++at) {
      for (const char byte : "*~%$:+,_#0129-\r\nx") {
        std::string damaged = example.resp3;
        damaged[at] = byte;
        const std::string answer = converted(example.form, damaged);
        if (answer == "refused") continue;
        ReplyFramer framer;
        const ReplyFramer::Step step = framer.advance(answer);
        INFO(damaged << " became " << answer);
        CHECK(step.complete);
        CHECK(step.bytes == answer.size());
      }
    }
  }
}

TEST_CASE("errors, pushes, attributes and types that no cacheable command answers are refused, wherever they stand") {
  for (const std::string_view element :
       {"-ERR no\r\n", "!6\r\nERR no\r\n", ">1\r\n$1\r\na\r\n", "|1\r\n:1\r\n:2\r\n", "=5\r\ntxt:a\r\n", "(123\r\n",
        "$-1\r\n", "*-1\r\n", "*?\r\n", "$?\r\n", "%-1\r\n", "~-1\r\n", ".\r\n", "PONG\r\n"}) {
    INFO(element);
    CHECK(refused_in_every_form(element));
    CHECK(refused_in_every_form("*1\r\n" + std::string(element)));
    CHECK(refused_in_every_form("*2\r\n:1\r\n" + std::string(element)));
    CHECK(refused_in_every_form("%1\r\n:1\r\n" + std::string(element)));
    CHECK(refused_in_every_form("*1\r\n*2\r\n:1\r\n" + std::string(element)));
    CHECK(refused_in_every_form(std::string(element) + ":1\r\n"));
  }
}

TEST_CASE("heads that are not canonical numbers are refused") {
  for (const std::string_view reply : {"$01\r\na\r\n", "$+1\r\na\r\n", "$ 1\r\na\r\n",
                                       "$\r\n\r\n",    "$1 \r\na\r\n", "$1\ra\r\n",
                                       "$1\na\r\n",    "$1\r\nab\n",   "$18446744073709551616\r\na\r\n",
                                       "*00\r\n",      "*\r\n",        "*-0\r\n",
                                       "%+0\r\n",      "~0x0\r\n",     ":\r\n",
                                       ",\r\n",        "+\r\n",        "_x\r\n",
                                       "_\n",          "#x\r\n",       "#true\r\n",
                                       ",1\r2\r\n",    ":1\n"}) {
    INFO(reply);
    CHECK(refused_in_every_form(reply));
  }
}

TEST_CASE("counts over what follows are refused at once, whatever they add up to") {
  for (const std::string_view count : {"1", "2", "100", "1073741824", "4611686018427387904", "9223372036854775807",
                                       "9223372036854775808", "18446744073709551615"}) {
    for (const char type : {'*', '~', '%', '$'}) {
      const std::string head = type + std::string(count) + "\r\n";
      INFO(head);
      CHECK(refused_in_every_form(head));
      CHECK(refused_in_every_form("*1\r\n" + head));
      CHECK(refused_in_every_form("*2\r\n*2\r\n:1\r\n:1\r\n" + head));
    }
  }
  std::string many;  // whose sum is 0 modulo 2^64
  for (int i = 0; i < 4; ++i) many += "*4611686018427387904\r\n";
  CHECK(refused_in_every_form(many));
}

TEST_CASE("deep nesting is converted without regard to its depth, and costs no stack") {
  constexpr int kDepth = 200'000;
  std::string deep;
  std::string flat;
  for (int i = 0; i < kDepth; ++i) {
    deep += i % 2 == 0 ? "~1\r\n" : "*1\r\n";
    flat += "*1\r\n";
  }
  CHECK(plain(deep + "_\r\n") == flat + "$-1\r\n");
  CHECK(plain(deep) == "refused");
  CHECK(plain(deep + "_\r\n_\r\n") == "refused");
}

TEST_CASE("an array of pairs is all pairs, and a flat one holds nothing nested") {
  const auto pairs = [](std::string_view reply) { return converted(Resp2Form::kPairsFlat, reply); };
  CHECK(pairs("*2\r\n*2\r\n:1\r\n:2\r\n:3\r\n") == "refused");
  CHECK(pairs("*2\r\n:3\r\n*2\r\n:1\r\n:2\r\n") == "refused");
  CHECK(pairs("*1\r\n*1\r\n:1\r\n") == "refused");
  CHECK(pairs("*1\r\n*3\r\n:1\r\n:2\r\n:3\r\n") == "refused");
  CHECK(pairs("*1\r\n*2\r\n:1\r\n*0\r\n") == "refused");
  CHECK(pairs("*1\r\n*2\r\n*2\r\n:1\r\n:2\r\n:3\r\n") == "refused");
  CHECK(pairs("*1\r\n~2\r\n:1\r\n:2\r\n") == "refused");
  CHECK(pairs("*1\r\n%1\r\n:1\r\n:2\r\n") == "refused");
  CHECK(pairs("*0\r\n*2\r\n:1\r\n:2\r\n") == "refused");
}

TEST_CASE("what is converted is what element by element conversion gives, for random replies") {
  std::mt19937 random(20241);
  struct Maker {
    std::mt19937& random;
    std::string resp3, resp2;
    void element(int depth) {
      const unsigned kind = random() % (depth > 0 ? 9 : 6);
      if (kind >= 6) return aggregate(kind, depth);
      static const std::pair<std::string, std::string> kScalars[] = {
          {"$3\r\n\r\n,\r\n", "$3\r\n\r\n,\r\n"}, {":-12\r\n", ":-12\r\n"}, {"+ok\r\n", "+ok\r\n"},
          {",1.5\r\n", "$3\r\n1.5\r\n"},          {"_\r\n", "$-1\r\n"},     {"#f\r\n", ":0\r\n"}};
      resp3 += kScalars[kind].first;
      resp2 += kScalars[kind].second;
    }
    void aggregate(unsigned kind, int depth) {
      const unsigned count = random() % 12;
      const unsigned children = kind == 8 ? 2 * count : count;
      resp3 += "*~%"[kind - 6] + std::to_string(count) + "\r\n";
      resp2 += "*" + std::to_string(children) + "\r\n";
      for (unsigned i = 0; i < children; ++i) element(depth - 1);
    }
  };
  for (int i = 0; i < 3000; ++i) {
    Maker maker{random, {}, {}};
    maker.element(3);
    REQUIRE(plain(maker.resp3) == maker.resp2);
    if (maker.resp3.size() > 4)
      REQUIRE(plain(std::string_view(maker.resp3).substr(0, random() % maker.resp3.size())) == "refused");
  }
}

TEST_CASE("strings, statuses and integers need no conversion; nulls, errors and all else do or are no answers") {
  for (const std::string_view reply :
       {"$0\r\n\r\n", "$1\r\na\r\n", "$10\r\n0123456789\r\n", "+string\r\n", ":0\r\n", ":-1\r\n"}) {
    INFO(reply);
    CHECK(same_in_resp2(reply));
    CHECK(plain(reply) == reply);
  }
  for (const std::string_view reply :
       {"", "$-1\r\n", "_\r\n", "-ERR no\r\n", "*0\r\n", "*1\r\n:1\r\n", "%0\r\n", "~0\r\n", ",1\r\n", "#t\r\n",
        "=5\r\ntxt:a\r\n", "(1\r\n", ">0\r\n", "|0\r\n", "!5\r\nERR a\r\n"}) {
    INFO(reply);
    CHECK_FALSE(same_in_resp2(reply));
  }
}

TEST_CASE("the form follows from the call: ZRANK's null is an array's only with WITHSCORE") {
  CHECK(form_of("zrank", {"k", "m"}) == Resp2Form::kPlain);
  CHECK(form_of("zrank", {"k", "m", "WITHSCORE"}) == Resp2Form::kNullArray);
  CHECK(form_of("zrevrank", {"k", "m", "withscore"}) == Resp2Form::kNullArray);
  CHECK(form_of("get", {"k"}) == Resp2Form::kPlain);
  CHECK(form_of("geopos", {"k", "m"}) == Resp2Form::kNullArray);
  CHECK(form_of("zrange", {"k", "0", "-1"}) == Resp2Form::kPairsFlat);
  const std::vector<std::string_view> args = {"ZRANK", "k", "m", "WITHSCORE"};
  std::string out;
  CHECK(append_as_resp2(out, *find_command("zrank"), args, "*2\r\n:3\r\n,1.5\r\n"));
  CHECK(append_as_resp2(out, *find_command("zrank"), args, "_\r\n"));
  CHECK(append_as_resp2(out, *find_command("zrank"), std::span(args).first(3), "_\r\n"));
  CHECK(out == "*2\r\n:3\r\n$3\r\n1.5\r\n*-1\r\n$-1\r\n");
}

}  // namespace nearcached::protocol
