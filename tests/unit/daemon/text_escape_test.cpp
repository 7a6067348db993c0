#include "daemon/text_escape.hpp"

#include <catch2/catch.hpp>
#include <random>

#include "tests/unit/daemon/strict_json.hpp"

namespace nearcached::daemon {
namespace {

std::string json(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

std::string log_value(std::string_view text) {
  std::string out;
  append_log_value(out, text);
  return out;
}

// What a strict parser reads back.
std::string json_round_trip(std::string_view text) {
  const auto values = testing::StrictJson::parse("{\"v\":" + json(text) + "}");
  REQUIRE(values);
  return values->at("v");
}

TEST_CASE("the JSON checker of these tests refuses what is not JSON") {
  for (const std::string_view bad :
       {"", "{", "{}}", "{\"a\":1,}", "[1,]", "01", "1.", "-", "\"\n\"", "\"\\x41\"", "\"\\ud800\"", "\"\x80\"",
        "\"\xc0\x80\"", "{\"a\":1,\"a\":2}", "nul", "{a:1}", "\"a", "1 2"}) {
    INFO(bad);
    CHECK_FALSE(testing::StrictJson::parse(bad));
  }
  CHECK(testing::StrictJson::parse("{\"a\":[1,{\"b\":\"\\n\"}]}")->at("a[1].b") == "\n");
}

TEST_CASE("every single byte becomes valid JSON, and each ASCII character comes back as it was") {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    INFO("byte " << byte);
    CHECK(json_round_trip(text) == (byte < 0x80 ? text : "\xef\xbf\xbd"));
  }
}

TEST_CASE("code points of every length come back as they were, at the borders of their ranges") {
  for (const std::string text : {"\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
                                 "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "a\xf0\x9f\x98\x80z"}) {
    CHECK(json_round_trip(text) == text);
  }
}

TEST_CASE("overlong forms, surrogates and values past the last code point are replaced") {
  for (const std::string_view text :
       {"\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff\xfe"}) {
    const std::string back = json_round_trip(text);
    CHECK(back.size() == 3 * text.size());
    CHECK(back.find_first_not_of("\xef\xbf\xbd") == std::string::npos);
  }
}

TEST_CASE("a code point cut short at the end of the text is replaced, not read past") {
  const std::string text = "\xf0\x9f\x98\x80";
  for (std::size_t length = 1; length < text.size(); ++length) {
    CHECK(json_round_trip(std::string_view(text.data(), length)).size() == 3 * length);
  }
}

TEST_CASE("random bytes are always valid JSON and never more than one log line") {
  std::mt19937 random(20261122);
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 40, '\0');
    for (char& c : text) c = static_cast<char>(random());
    CHECK(testing::StrictJson::parse(json(text)));
    const std::string value = log_value(text);
    for (const char c : value) {
      const auto byte = static_cast<unsigned char>(c);
      REQUIRE(byte >= 0x20);
      REQUIRE(byte != 0x7f);
    }
    CHECK(testing::StrictJson::parse(json(printable(text)))->at("") == printable(text));
  }
}

TEST_CASE("plain words, addresses and numbers stay bare in a log line") {
  for (const std::string_view text : {"ready", "127.0.0.1:6380", "[::1]:6380", "unix:/run/a.sock", "50%", "a-b_c"}) {
    CHECK(log_value(text) == text);
  }
}

TEST_CASE("a value that could be taken for something else is quoted") {
  CHECK(log_value("") == "\"\"");
  CHECK(log_value("a b") == "\"a b\"");
  CHECK(log_value("a=b") == "\"a=b\"");
  CHECK(log_value("say \"hi\"") == R"("say \"hi\"")");
  CHECK(log_value("back\\slash") == R"("back\\slash")");
  CHECK(log_value("\xc3\xa4") == "\"\xc3\xa4\"");
}

TEST_CASE("line breaks and terminal controls can't leave a log value") {
  CHECK(log_value("a\r\n2026 error forged=1") == R"("a\r\n2026 error forged=1")");
  CHECK(log_value(std::string_view("\0", 1)) == R"("\u0000")");
  CHECK(log_value("\x1b[2J") == R"("\u001b[2J")");
  CHECK(log_value("\x7f") == R"("\u007f")");
  CHECK(log_value("\xc2\x9b"
                  "2J") == R"("\u009b2J")");          // CSI as one C1 control
  CHECK(log_value("\xe2\x80\xa8") == R"("\u2028")");  // line separator
  CHECK(log_value("\x9b"
                  "2J") == R"("\x9b2J")");  // the same as a raw byte
}

TEST_CASE("printable text holds no control character, no wrong byte, and the rest unchanged") {
  CHECK(printable("a\r\nb\x01\xff"
                  "c\xc3\xa4") == "a??b??c\xc3\xa4");
  CHECK(printable("") == "");
}

TEST_CASE("markup can't get into a page") {
  CHECK(html_escape("<a href=\"x\" t='y'>&\n") == "&lt;a href=&quot;x&quot; t=&#39;y&#39;&gt;&amp;?");
}

}  // namespace
}  // namespace nearcached::daemon
