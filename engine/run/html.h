// Text in a page: what a browser shows of it is the text, whatever it holds.
//
// Pure; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace logbell::engine {

// As content or between quotes as an attribute's value; control characters as clean_text() writes them, cut after `most`
// bytes.
std::string html(std::string_view text, std::size_t most = 4096);

}  // namespace logbell::engine
