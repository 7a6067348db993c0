// A value as it was written, before the schema gives it a type. The YAML file, the environment and the command line all
// end here, so that there is one way from text to setting.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace nearcached::config {

struct MapEntry;

struct Value {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  int line = 0;                   // of the file, 1-based; 0 if it did not come from a file
  std::string text;               // kScalar
  std::vector<Value> items;       // kList
  std::vector<MapEntry> entries;  // kMap, in the order of the file

  static Value scalar(std::string text, int line = 0) {
    Value value;
    value.kind = Kind::kScalar;
    value.line = line;
    value.text = std::move(text);
    return value;
  }
  static Value of(Kind kind, int line = 0) {
    Value value;
    value.kind = kind;
    value.line = line;
    return value;
  }
};

struct MapEntry {
  std::string name;
  int line = 0;
  Value value;
};

}  // namespace nearcached::config
