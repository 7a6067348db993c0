// A disk in memory that fails when it is told to, and that knows what would be left of it after a power cut.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tiers/write_behind/disk.hpp"

namespace nearcached::tiers::write_behind::testing {

enum class Fault {
  kNone,
  kShortWrite,  // of a write: half of it, without an error
  kNoSpace,     // of a write (behind half of it) or a create
  kIo,          // of anything; a write has written half, a sync some
};

// Every operation but list and read has an index, from 0. At `fault_at` it fails, and so do the `fault_count` - 1 after it.
// What a crash leaves: files that were synced, with what was synced, and of the rest any part: each sector of each write
// since, each name and removal since the directory was synced, by the seed. After a failed sync the file's writes stay
// unsynced for ever, however often it is synced again: as the kernel has it.
class MemoryDisk final : public Disk {
 public:
  Fault fault = Fault::kNone;
  std::uint64_t fault_at = 0;
  std::uint64_t fault_count = 1;
  std::uint64_t operations = 0;
  std::uint64_t misuse = 0;  // writes and syncs of a file after one of its own failed

  std::error_code create(const std::string& name, std::uint64_t bytes, std::unique_ptr<DiskFile>& file) override {
    if (used_bytes() + bytes > capacity) return std::make_error_code(std::errc::no_space_on_device);
    if (const Fault now = next_fault(); now != Fault::kNone && now != Fault::kShortWrite) return error_of(now);
    if (files_.contains(name)) return std::make_error_code(std::errc::file_exists);
    auto content = std::make_shared<Content>();
    content->seen.assign(bytes, '\0');
    files_[name] = content;
    names_since_.push_back({name, nullptr});
    file = std::make_unique<OpenFile>(*this, content);
    return {};
  }
  std::error_code sync_directory() override {
    if (const Fault now = next_fault(); now == Fault::kIo) return error_of(now);
    names_since_.clear();
    return {};
  }
  std::error_code list(std::vector<std::string>& names) override {
    names.clear();
    for (const auto& [name, content] : files_) names.push_back(name);
    return {};
  }
  std::error_code read(const std::string& name, std::string& content) override {
    const auto file = files_.find(name);
    if (file == files_.end()) return std::make_error_code(std::errc::no_such_file_or_directory);
    if (unreadable == name) return std::make_error_code(std::errc::io_error);
    content = file->second->seen;
    return {};
  }
  std::error_code truncate(const std::string& name, std::uint64_t bytes) override {
    if (const Fault now = next_fault(); now == Fault::kIo) return error_of(now);
    Content& content = *files_.at(name);
    content.seen.resize(bytes);
    content.synced = content.seen;
    content.unsynced.clear();
    return {};
  }
  std::error_code remove(const std::string& name) override {
    if (const Fault now = next_fault(); now == Fault::kIo) return error_of(now);
    const auto file = files_.find(name);
    if (file == files_.end()) return std::make_error_code(std::errc::no_such_file_or_directory);
    names_since_.push_back({name, file->second});
    files_.erase(file);
    return {};
  }

  // The disk as it may be after a power cut. All written, synced or not, with `everything`: as after a kill.
  [[nodiscard]] MemoryDisk after_crash(std::uint32_t seed, bool everything = false) const {
    std::mt19937 random(seed);
    std::map<std::string, std::shared_ptr<Content>> files = files_;
    if (!everything) {
      for (std::size_t i = names_since_.size(); i-- > 0;) {
        if (random() % 2 == 0) continue;
        const auto& [name, removed] = names_since_[i];
        if (removed == nullptr) {
          files.erase(name);
        } else {
          files[name] = removed;
        }
      }
    }
    MemoryDisk left;
    for (const auto& [name, content] : files) left.put(name, everything ? content->seen : content->torn(random));
    return left;
  }

  // A file with all of it durable.
  void put(const std::string& name, const std::string& bytes) {
    auto content = std::make_shared<Content>();
    content->seen = content->synced = bytes;
    files_[name] = content;
  }
  [[nodiscard]] std::string& bytes(const std::string& name) { return files_.at(name)->seen; }
  [[nodiscard]] bool has(const std::string& name) const { return files_.contains(name); }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, content] : files_) names.push_back(name);
    return names;
  }
  [[nodiscard]] MemoryDisk copy() const { return after_crash(0, true); }

  std::string unreadable;                      // this file gives EIO when it is read
  std::uint64_t capacity = ~std::uint64_t{0};  // of all files

 private:
  static constexpr std::size_t kSector = 512;

  struct Content {
    std::string seen;    // what a reader sees
    std::string synced;  // what the last good sync made durable
    std::vector<std::pair<std::uint64_t, std::string>> unsynced;
    bool failed = false;

    [[nodiscard]] std::string torn(std::mt19937& random) const {
      std::string left = synced;
      left.resize(seen.size());
      for (const auto& [offset, bytes] : unsynced) {
        for (std::size_t at = 0; at < bytes.size();) {
          const std::size_t length = std::min(bytes.size() - at, kSector - (offset + at) % kSector);
          if (random() % 2 == 0) left.replace(offset + at, length, bytes, at, length);
          at += length;
        }
      }
      return left;
    }
  };

  class OpenFile final : public DiskFile {
   public:
    OpenFile(MemoryDisk& disk, std::shared_ptr<Content> content) : disk_(disk), content_(std::move(content)) {}
    Written write(std::uint64_t offset, std::span<const std::string_view> pieces) override {
      const Fault now = disk_.next_fault();
      note_use();
      std::string all;
      for (const std::string_view piece : pieces) all += piece;
      if (now != Fault::kNone) {
        content_->failed = true;
        all.resize(all.size() / 2);
      }
      if (content_->seen.size() < offset + all.size()) content_->seen.resize(offset + all.size());
      content_->seen.replace(offset, all.size(), all);
      const std::size_t bytes = all.size();
      content_->unsynced.emplace_back(offset, std::move(all));
      return {now == Fault::kIo ? 0 : bytes, now == Fault::kShortWrite ? std::error_code{} : error_of(now)};
    }
    std::error_code sync() override {
      const Fault now = disk_.next_fault();
      note_use();
      if (now == Fault::kIo || now == Fault::kNoSpace) {
        content_->failed = true;
        return error_of(now);
      }
      if (content_->failed) return {};
      content_->synced = content_->seen;
      content_->unsynced.clear();
      return {};
    }

   private:
    void note_use() {
      if (content_->failed) ++disk_.misuse;
    }

    MemoryDisk& disk_;
    std::shared_ptr<Content> content_;
  };

  [[nodiscard]] std::uint64_t used_bytes() const {
    std::uint64_t sum = 0;
    for (const auto& [name, content] : files_) sum += content->seen.size();
    return sum;
  }
  Fault next_fault() {
    const std::uint64_t index = operations++;
    return fault != Fault::kNone && index >= fault_at && index - fault_at < fault_count ? fault : Fault::kNone;
  }
  static std::error_code error_of(Fault now) {
    if (now == Fault::kNone) return {};
    return std::make_error_code(now == Fault::kIo ? std::errc::io_error : std::errc::no_space_on_device);
  }

  std::map<std::string, std::shared_ptr<Content>> files_;
  std::vector<std::pair<std::string, std::shared_ptr<Content>>> names_since_;  // null: created; else: removed
};

}  // namespace nearcached::tiers::write_behind::testing
