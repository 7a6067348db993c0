#include "daemon/dead_letters.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "strict_json.hpp"

namespace nearcached::daemon {
namespace {

using tiers::write_behind::Write;

struct Directory {
  Directory() {
    std::string name = "/tmp/nearcached-dead-letters-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Directory() { std::filesystem::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string path;
};

std::string content(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST_CASE("a dead letter is one line of JSON, whatever the bytes are") {
  const Write write{Write::Kind::kSet, std::string("\0\xff\n", 3), 17};
  const std::string line = dead_letter_line({2, "k\"\n", &write, 9, "NOPERM \"no\""}, 1000);
  CHECK(line ==
        "{\"time_ms\": 1000, \"database\": 2, \"key\": \"k\\\"\\n\", \"key_hex\": \"6b220a\", \"kind\": \"set\", "
        "\"value_hex\": \"00ff0a\", \"expires_at_ms\": 17, \"sequence\": 9, \"error\": \"NOPERM \\\"no\\\"\"}\n");
  CHECK(testing::StrictJson::parse(line));
  const Write gone{Write::Kind::kDelete, {}, 0};
  CHECK(dead_letter_line({0, "k", &gone, 1, "x"}, 1).find("\"kind\": \"delete\"") != std::string::npos);
}

TEST_CASE("dead letters are appended, and who can't is told so") {
  const Directory directory;
  const std::string file = directory.path + "/dead-letters.log";
  const Write write{Write::Kind::kSet, "v", 0};
  const DeadLetter letter{0, "k", &write, 1, "NOPERM"};
  const DeadLetters letters(directory.path);
  CHECK(letters.add(letter));
  CHECK(letters.add(letter));
  const std::string text = content(file);
  CHECK(std::count(text.begin(), text.end(), '\n') == 2);
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  CHECK_FALSE(letters.add(letter));
  CHECK_FALSE(DeadLetters(directory.path + "/none").add(letter));
  CHECK(DeadLetters("").add(letter));
}

}  // namespace
}  // namespace nearcached::daemon
