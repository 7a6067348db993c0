// A directory of the real filesystem, locked by this process.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tiers/write_behind/disk.hpp"

namespace nearcached::tiers::write_behind {

// Holds an exclusive flock of DIRECTORY/lock as long as it lives: the kernel gives it back however the process ends, so a
// kill -9 leaves nothing to clean up, which a file with a process id in it would. What it is bad at: network filesystems
// that keep flocks per machine; a log belongs on a local volume anyway.
// Blocks are reserved with fallocate(2), not posix_fallocate(3), whose stand-in for filesystems that can't is to write a
// byte into every block; there a segment grows as it is written.
class PosixDisk final : public Disk {
 public:
  // Makes the directory (not the ones above it) if it is missing. Null: `error` says why, names the directory, and the
  // process that holds it.
  [[nodiscard]] static std::unique_ptr<PosixDisk> open(const std::string& directory, std::string& error);
  ~PosixDisk() override;
  PosixDisk(const PosixDisk&) = delete;
  PosixDisk& operator=(const PosixDisk&) = delete;

  [[nodiscard]] std::error_code create(const std::string& name, std::uint64_t bytes,
                                       std::unique_ptr<DiskFile>& file) override;
  [[nodiscard]] std::error_code sync_directory() override;
  [[nodiscard]] std::error_code list(std::vector<std::string>& names) override;
  [[nodiscard]] std::error_code read(const std::string& name, std::string& content) override;
  [[nodiscard]] std::error_code truncate(const std::string& name, std::uint64_t bytes) override;
  [[nodiscard]] std::error_code remove(const std::string& name) override;

 private:
  PosixDisk(std::string path, int directory, int lock) noexcept;

  const std::string path_;
  const int directory_;
  const int lock_;
};

}  // namespace nearcached::tiers::write_behind
