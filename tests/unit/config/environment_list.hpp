// Argument and environment lists as main() has them.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace nearcached::config {

class StringList {
 public:
  explicit StringList(std::vector<std::string> strings) : strings_(std::move(strings)) {
    for (const std::string& text : strings_) pointers_.push_back(text.c_str());
    pointers_.push_back(nullptr);
  }
  StringList(const StringList&) = delete;
  StringList& operator=(const StringList&) = delete;

  [[nodiscard]] const char* const* data() const { return pointers_.data(); }
  [[nodiscard]] int count() const { return static_cast<int>(strings_.size()); }

 private:
  std::vector<std::string> strings_;
  std::vector<const char*> pointers_;
};

}  // namespace nearcached::config
