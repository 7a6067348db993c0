// The seam between the log of write-behind and what it is stored on: every fault of a disk is injected here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace nearcached::tiers::write_behind {

struct Written {
  std::size_t bytes = 0;  // from the front of what was given; less than all of it is a failure with or without an error
  std::error_code error;
};

// A file that is being written. Not thread-safe. The destructor closes it without syncing.
class DiskFile {
 public:
  virtual ~DiskFile() = default;
  // The pieces one behind the other, in one call of the system.
  [[nodiscard]] virtual Written write(std::uint64_t offset, std::span<const std::string_view> pieces) = 0;
  // What was written is durable. After an error nobody knows what is, and asking again answers nothing: the kernel has
  // forgotten which pages it failed to write (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
  [[nodiscard]] virtual std::error_code sync() = 0;
};

// One directory. Errors are the system's (errno in the generic category). Not thread-safe.
class Disk {
 public:
  virtual ~Disk() = default;
  // A new file of that many zeros, its blocks reserved where the filesystem can. On an error there is no file, if that
  // could be undone. Its name is durable only behind sync_directory().
  [[nodiscard]] virtual std::error_code create(const std::string& name, std::uint64_t bytes,
                                               std::unique_ptr<DiskFile>& file) = 0;
  [[nodiscard]] virtual std::error_code sync_directory() = 0;
  // Names, in any order.
  [[nodiscard]] virtual std::error_code list(std::vector<std::string>& names) = 0;
  [[nodiscard]] virtual std::error_code read(const std::string& name, std::string& content) = 0;
  // Durable when it returns.
  [[nodiscard]] virtual std::error_code truncate(const std::string& name, std::uint64_t bytes) = 0;
  // Durable only behind sync_directory().
  [[nodiscard]] virtual std::error_code remove(const std::string& name) = 0;
};

}  // namespace nearcached::tiers::write_behind
