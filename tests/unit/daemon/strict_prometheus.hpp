// A reader of Prometheus' text format 0.0.4 that accepts nothing doubtful, promtool's lint rules included.
#pragma once

#include <cctype>
#include <cstdlib>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::daemon::testing {

struct PrometheusFamily {
  std::string type;
  std::string help;
  std::map<std::string, double> samples;  // "name{a=\"b\",c=\"d\"}" with labels sorted -> value
  std::set<std::string> label_names;      // of all its samples, le excepted
};

// Throws std::runtime_error naming the line that is wrong.
class StrictPrometheus {
 public:
  static std::map<std::string, PrometheusFamily> parse(std::string_view text) {
    StrictPrometheus parser;
    if (!text.empty() && text.back() != '\n') throw std::runtime_error("no newline at the end");
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      parser.line_ = text.substr(0, end);
      parser.line();
      text.remove_prefix(end + 1);
    }
    parser.end_family();
    return parser.families_;
  }

 private:
  struct Sample {
    std::string suffix;  // after the family's name
    std::map<std::string, std::string> labels;
    double value = 0;
  };

  [[noreturn]] void fail(const std::string& why) const { throw std::runtime_error(why + ": " + std::string(line_)); }
  void require(bool ok, const char* why) const {
    if (!ok) fail(why);
  }

  static std::size_t name_length(std::string_view text, bool colon) {
    std::size_t n = 0;
    for (; n < text.size(); ++n) {
      const auto c = static_cast<unsigned char>(text[n]);
      const bool ok = std::isalpha(c) != 0 || c == '_' || (colon && c == ':') || (n > 0 && std::isdigit(c) != 0);
      if (!ok) break;
    }
    return n;
  }

  void line() {
    require(!line_.empty(), "empty line");
    if (line_.substr(0, 7) == "# HELP ") return help(line_.substr(7));
    if (line_.substr(0, 7) == "# TYPE ") return type(line_.substr(7));
    require(line_.front() != '#', "a comment that is neither HELP nor TYPE");
    sample(line_);
  }

  void help(std::string_view rest) {
    end_family();
    const std::size_t n = name_length(rest, true);
    require(n > 0 && rest.size() > n + 1 && rest[n] == ' ', "HELP without name or text");
    name_ = rest.substr(0, n);
    require(families_.count(name_) == 0, "a family twice");
    family_.help = rest.substr(n + 1);
    for (std::size_t i = 0; i < family_.help.size(); ++i) {
      if (family_.help[i] != '\\') continue;
      require(i + 1 < family_.help.size() && (family_.help[i + 1] == '\\' || family_.help[i + 1] == 'n'),
              "bad escape in HELP");
      ++i;
    }
  }

  void type(std::string_view rest) {
    require(rest.substr(0, name_.size() + 1) == name_ + " ", "TYPE of another family than HELP");
    require(family_.type.empty(), "TYPE twice");
    family_.type = rest.substr(name_.size() + 1);
    require(family_.type == "counter" || family_.type == "gauge" || family_.type == "histogram", "unknown type");
    const bool total = name_.size() > 6 && name_.substr(name_.size() - 6) == "_total";
    require(total == (family_.type == "counter"), "_total belongs to counters, and to them alone");
  }

  void sample(std::string_view rest) {
    require(!family_.type.empty(), "a sample before TYPE");
    Sample found;
    const std::size_t n = name_length(rest, true);
    const std::string_view name = rest.substr(0, n);
    require(name.substr(0, name_.size()) == name_, "a sample of another family");
    found.suffix = name.substr(name_.size());
    rest.remove_prefix(n);
    if (!rest.empty() && rest.front() == '{') labels(rest, found);
    require(rest.size() > 1 && rest.front() == ' ', "no value");
    const std::string number(rest.substr(1));
    char* end = nullptr;
    found.value = std::strtod(number.c_str(), &end);
    require(end == number.c_str() + number.size() && std::isspace(static_cast<unsigned char>(number.front())) == 0,
            "not a number");
    add(std::move(found));
  }

  void labels(std::string_view& rest, Sample& found) {
    rest.remove_prefix(1);
    while (true) {
      const std::size_t n = name_length(rest, false);
      const std::string name(rest.substr(0, n));
      require(n > 0 && name.substr(0, 2) != "__", "not a label name");
      rest.remove_prefix(n);
      require(rest.substr(0, 2) == "=\"", "a label without value");
      rest.remove_prefix(2);
      std::string value;
      while (!rest.empty() && rest.front() != '"') {
        if (rest.front() == '\\') {
          require(rest.size() > 1 && std::string_view("\\\"n").find(rest[1]) != std::string_view::npos, "bad escape");
          value += rest.front();
          rest.remove_prefix(1);
        }
        value += rest.front();
        rest.remove_prefix(1);
      }
      require(!rest.empty(), "a label value without end");
      rest.remove_prefix(1);
      require(found.labels.emplace(name, value).second, "a label twice");
      require(!rest.empty() && (rest.front() == ',' || rest.front() == '}'), "no end of labels");
      const bool last = rest.front() == '}';
      rest.remove_prefix(1);
      if (last) return;
    }
  }

  void add(Sample found) {
    const bool histogram = family_.type == "histogram";
    const bool bucket = found.suffix == "_bucket";
    require(histogram ? bucket || found.suffix == "_sum" || found.suffix == "_count" : found.suffix.empty(), "bad suffix");
    require((histogram && bucket) == (found.labels.count("le") == 1), "le belongs to buckets, and to them alone");
    require(family_.type == "gauge" || found.value >= 0, "negative");
    std::string key = name_ + found.suffix;
    char separator = '{';
    for (const auto& [name, value] : found.labels) {
      key.append(1, separator).append(name).append("=\"").append(value).append("\"");
      separator = ',';
      if (name != "le") family_.label_names.insert(name);
    }
    if (separator == ',') key += '}';
    require(family_.samples.emplace(key, found.value).second, "a sample twice");
    if (bucket) buckets_.emplace_back(std::strtod(found.labels.at("le").c_str(), nullptr), found.value);
    if (found.suffix == "_count") count_ = found.value;
  }

  void end_family() {
    if (name_.empty()) return;
    require(!family_.type.empty(), "HELP without TYPE before");
    if (family_.type == "histogram") {
      require(!buckets_.empty(), "a histogram without buckets before");
      for (std::size_t i = 1; i < buckets_.size(); ++i) {
        require(buckets_[i].first > buckets_[i - 1].first && buckets_[i].second >= buckets_[i - 1].second,
                "buckets not in order before");
      }
      require(buckets_.back().first > 1e300 && buckets_.back().second == count_, "the last bucket is not the count before");
    }
    families_.emplace(name_, family_);
    name_.clear();
    family_ = {};
    buckets_.clear();
    count_ = -1;
  }

  std::string_view line_;
  std::string name_;
  PrometheusFamily family_;
  std::vector<std::pair<double, double>> buckets_;
  double count_ = -1;
  std::map<std::string, PrometheusFamily> families_;
};

}  // namespace nearcached::daemon::testing
