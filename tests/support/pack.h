// Text as compressors leave it, made with their own libraries.
#pragma once

#include <string>
#include <string_view>

#include <catch2/catch.hpp>
#include <zlib.h>
#include <zstd.h>

namespace logbell::tests {

inline std::string gzip(std::string_view text) {
  z_stream stream{};
  REQUIRE(::deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(::deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  ::deflateEnd(&stream);
  return packed;
}

// `window_log`: 0 is the level's own.
inline std::string zstd(std::string_view text, int window_log = 0) {
  ZSTD_CCtx* context = ::ZSTD_createCCtx();
  ::ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  ::ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
  std::string packed(::ZSTD_compressBound(text.size()), '\0');
  const std::size_t size = ::ZSTD_compress2(context, packed.data(), packed.size(), text.data(), text.size());
  ::ZSTD_freeCCtx(context);
  REQUIRE(::ZSTD_isError(size) == 0);
  packed.resize(size);
  return packed;
}

}  // namespace logbell::tests
