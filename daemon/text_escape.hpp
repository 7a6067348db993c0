// Text that others wrote (keys, host names, error lines) made safe to print: JSON, log values, one-line values.
#pragma once

#include <string>
#include <string_view>

namespace nearcached::daemon {

// Appends `text` as a JSON string with its quotes. Control characters are escaped; bytes that are not UTF-8 become U+FFFD,
// so the result is valid JSON for any input (RFC 8259, section 7).
void append_json_string(std::string& out, std::string_view text);

// Appends `text` as the value of a key=value log line: bare where it is made of plain printable characters only, otherwise
// quoted, with `"` `\` and control characters escaped. DEL, the C1 controls, U+2028 and U+2029 are escaped too: terminals
// and log viewers act on them. What is not UTF-8 appears as \xHH. Never emits a line break.
void append_log_value(std::string& out, std::string_view text);

// Valid UTF-8 without control characters: each control character or wrong byte is replaced by '?'. For places with no
// escapes of their own, such as INFO lines and metric labels.
[[nodiscard]] std::string printable(std::string_view text);

// `text` for element content and quoted attributes of HTML, controls and wrong bytes replaced as by printable().
[[nodiscard]] std::string html_escape(std::string_view text);

}  // namespace nearcached::daemon
