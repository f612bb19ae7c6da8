// Signatures: as everybody computes them, and compared as a whole.
#include "sinks/sign.h"

#include <catch2/catch.hpp>

using logbell::rules::Secret;
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace): a test

TEST_CASE("sign: HMAC-SHA256 as everybody computes it", "[sinks][sign]") {
  // RFC 4231, cases 2 and 6.
  CHECK(sign(Secret("Jefe"), "what do ya want for nothing?") ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(sign(Secret(std::string(131, '\xaa')), "Test Using Larger Than Block-Size Key - Hash Key First") ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  CHECK(hmac(Secret("Jefe"), "what do ya want for nothing?").substr(0, 4) == "\x5b\xdc\xc1\x46");
  CHECK(hmac(Secret(), "").size() == 32);
}

TEST_CASE("sign: secrets are the same, or not", "[sinks][sign]") {
  CHECK(same_secret("", ""));
  CHECK(same_secret("abc", "abc"));
  CHECK_FALSE(same_secret("abc", "abd"));
  CHECK_FALSE(same_secret("abc", "xbc"));
  CHECK_FALSE(same_secret("abc", "ab"));
  CHECK_FALSE(same_secret("", "a"));
}
