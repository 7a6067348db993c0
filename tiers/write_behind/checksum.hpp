// CRC32C of what the log of write-behind stores.
#pragma once

#include <cstdint>
#include <string_view>

namespace nearcached::tiers::write_behind {

// Castagnoli's polynomial, as RFC 3720 has it: processors have an instruction for it, and it finds every error of up to 32
// bits in a row. The second form goes on from the sum of what stands before. By Intel's ISA-L, which picks the
// instructions at run time; Debian 12 has no package of Google's crc32c.
[[nodiscard]] std::uint32_t checksum(std::string_view bytes) noexcept;
[[nodiscard]] std::uint32_t checksum(std::uint32_t before, std::string_view bytes) noexcept;

}  // namespace nearcached::tiers::write_behind
