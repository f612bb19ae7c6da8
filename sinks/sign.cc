#include "sinks/sign.h"

#include <array>

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "rules/result.h"

namespace logbell::sinks {

std::string hmac(const rules::Secret& key, std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  const unsigned char* done = HMAC(EVP_sha256(), key.reveal().data(), static_cast<int>(key.reveal().size()),
                                   static_cast<const unsigned char*>(static_cast<const void*>(text.data())),
                                   text.size(), digest.data(), &size);
  LOGBELL_CHECK(done != nullptr);
  return {digest.begin(), digest.begin() + size};
}

std::string sign(const rules::Secret& key, std::string_view text) {
  std::string hex;
  for (const char byte : hmac(key, text))
    hex += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return hex;
}

bool same_secret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace logbell::sinks
