// Writes the logs and the rule sets that tests/bench/throughput measures with.
//
//   generate rules VARIANT RULES SEED DIRECTORY           rules.re2, .rg, .ere, .mtail; of json also .where
//   generate log   VARIANT RULES SEED RATE BYTES FILE     whole lines, at most BYTES
//
// The same arguments always give the same bytes; a smaller set of rules is the beginning of a larger one, a shorter log that
// of a longer one. RATE is the share of lines that match one of the rules; the others are near misses: the same services,
// words and keys with harmless values. README.md says what each variant is for.
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using std::string_view;

constexpr std::size_t kServices = 100;

// xorshift64*: fast, and the same everywhere, which the distributions of <random> are not.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_((seed + 1) * 0x9e3779b97f4a7c15U | 1U) {
    for (int i = 0; i < 8; ++i)  // seeds that are neighbours begin alike
      next();
  }

  std::uint64_t next() {
    state_ ^= state_ >> 12U;
    state_ ^= state_ << 25U;
    state_ ^= state_ >> 27U;
    return state_ * 0x2545f4914f6cdd1dU;
  }
  std::uint32_t below(std::size_t bound) { return static_cast<std::uint32_t>(((next() >> 32U) * bound) >> 32U); }
  std::uint32_t between(std::uint32_t least, std::uint32_t most) { return least + below(most - least + 1); }
  bool in_hundred(std::uint32_t share) { return below(100) < share; }
  bool coin() { return (next() >> 63U) != 0; }
  template <class List>
  const auto& of(const List& list) {
    return list[below(std::size(list))];
  }
  // How many lines to the next of those that are `rate` of all.
  double gap(double rate) { return -std::log((static_cast<double>(next() >> 11U) + 1) * 0x1p-53) / rate; }

 private:
  std::uint64_t state_;
};

struct Number {
  std::uint64_t value;
  unsigned width = 0;  // at least, with zeros in front
};

struct Hex {
  std::uint64_t value;
  unsigned digits;
};

// What is written: bytes that grow, and the lines in them.
class Text {
 public:
  template <class... Parts>
  void put(const Parts&... parts) {
    (add(parts), ...);
  }
  void end_line() {
    bytes_ += '\n';
    ++lines_;
  }
  std::string& bytes() { return bytes_; }
  std::uint64_t lines() const { return lines_; }

 private:
  void add(string_view text) { bytes_.append(text); }
  void add(char c) { bytes_ += c; }
  void add(Number number) {
    std::array<char, 24> digits{};
    std::size_t at = digits.size();
    do {
      digits[--at] = static_cast<char>('0' + number.value % 10);
      number.value /= 10;
    } while (number.value != 0 || digits.size() - at < number.width);
    bytes_.append(digits.data() + at, digits.size() - at);
  }
  void add(Hex hex) {
    for (unsigned i = hex.digits; i-- > 0;)
      bytes_ += "0123456789abcdef"[hex.value >> (4 * i) & 15U];
  }

  std::string bytes_;
  std::uint64_t lines_ = 0;
};

enum class Names { kAscii, kWide, kBroken };

// --- what every line is made of ----------------------------------------------------------------------------------------------

constexpr std::array<string_view, 10> kAreas = {"billing", "catalog", "checkout", "courier", "identity",
                                                "ledger",  "partner", "pricing",  "refund",  "stock"};
constexpr std::array<string_view, 10> kRoles = {"api",    "batch", "bridge", "gateway", "index",
                                                "mailer", "proxy", "relay",  "sync",    "writer"};

std::string service(std::size_t i, string_view between = "-") {
  std::string name(kAreas[i / 10 % 10]);
  return name.append(between).append(kRoles[i % 10]);
}

class Writer {
 public:
  Writer(Names names, std::uint64_t seed) : dice(seed), names_(names) {
    for (std::size_t i = 0; i < kServices; ++i) {
      services.push_back(service(i));
      packages.push_back(service(i, ""));
    }
  }

  void time() {
    const auto second = std::chrono::floor<std::chrono::seconds>(now_);
    if (second != stamped_) {
      stamped_ = second;
      const auto day = std::chrono::floor<std::chrono::days>(second);
      const std::chrono::year_month_day date(day);
      const std::chrono::hh_mm_ss clock(second - day);
      std::snprintf(stamp_.data(), stamp_.size(), "%04d-%02u-%02uT%02d:%02d:%02d.", static_cast<int>(date.year()),
                    static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                    static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                    static_cast<int>(clock.seconds().count()));
    }
    text.put(string_view(stamp_.data()), Number{static_cast<std::uint64_t>((now_ - second).count()), 3}, 'Z');
  }
  void pass_time() { now_ += std::chrono::milliseconds(dice.below(3)); }

  // Who it is for: one a line, and what makes the variants differ.
  void name() {
    static constexpr std::array<string_view, 8> kAscii = {"andre", "zoe", "tokyo", "soren", "lukasz", "maria", "jose", "mueller"};
    static constexpr std::array<string_view, 8> kWide = {"andré", "zoë", "東京", "søren", "łukasz", "мария", "josé", "müller"};
    static constexpr std::array<string_view, 4> kBroken = {"andr\xe9", "zo\xeb", "m\xfcller", "\xe6\x9d\xb1\xe4\xba"};
    if (names_ == Names::kBroken && dice.in_hundred(1)) return text.put(dice.of(kBroken));
    text.put(dice.of(names_ == Names::kWide ? kWide : kAscii));
  }
  bool wide() const { return names_ == Names::kWide; }

  void uuid() {
    const std::uint64_t a = dice.next(), b = dice.next();
    text.put(Hex{a >> 32U, 8}, '-', Hex{a >> 16U, 4}, "-4", Hex{a, 3}, "-b", Hex{b >> 48U, 3}, '-', Hex{b, 12});
  }
  void address() { text.put("10.", Number{dice.below(256)}, '.', Number{dice.below(256)}, '.', Number{dice.between(1, 254)}); }
  void user() { text.put('u', Number{dice.between(100000, 999999)}); }
  void path() {
    static constexpr std::array<string_view, 8> kWhat = {"orders", "users",    "carts",   "invoices",
                                                         "items",  "sessions", "parcels", "offers"};
    text.put("/api/v", Number{dice.between(1, 3)}, '/', dice.of(kWhat), '/');
    uuid();
  }
  // Milliseconds that no rule minds: most are few, all below 600.
  std::uint32_t harmless_ms() {
    const std::uint32_t percent = dice.below(100);
    return percent < 90 ? dice.between(1, 90) : percent < 99 ? dice.between(91, 390) : dice.between(391, 599);
  }
  string_view harmless_level() {
    const std::uint32_t percent = dice.below(100);
    return percent < 78 ? "INFO " : percent < 90 ? "DEBUG" : percent < 98 ? "WARN " : "ERROR";
  }

  // "2025-03-03T08:00:00.123Z WARN  [pool-3-thread-7] c.a.db.Pool(zoe) - "
  void head(string_view level, std::size_t of) {
    static constexpr std::array<string_view, 6> kLoggers = {"c.a.web.AccessLog",   "c.a.core.Scheduler",
                                                            "c.a.db.PooledSource", "c.a.auth.TokenFilter",
                                                            "c.a.jobs.Runner",     "o.a.k.clients.Consumer"};
    time();
    text.put(' ', level, " [");
    const std::uint32_t thread = dice.below(3);
    if (thread == 0 && level != "ERROR") {  // a worker's ERROR is what rules look for
      text.put(services[of], "-worker-", Number{dice.below(64)});
    } else if (thread == 1) {
      text.put("http-nio-8080-exec-", Number{dice.below(200)});
    } else {
      text.put("pool-", Number{dice.below(8)}, "-thread-", Number{dice.below(32)});
    }
    text.put("] ", dice.of(kLoggers), '(');
    name();
    text.put(") - ");
  }
  void request(std::size_t of, std::uint32_t status, std::uint32_t took) {
    static constexpr std::array<string_view, 4> kMethods = {"GET", "POST", "PUT", "DELETE"};
    text.put("request done service=", services[of], " method=", dice.of(kMethods), " path=");
    path();
    text.put(" status=", Number{status}, " took ", Number{took}, "ms user=");
    user();
    text.put(" bytes=", Number{dice.below(65536)});
  }
  void frames(std::size_t of, std::uint32_t count) {
    static constexpr std::array<string_view, 5> kFrames = {
        "OrderBook.place(OrderBook.java:", "Runner.run(Runner.java:", "PooledSource.take(PooledSource.java:",
        "Chain.proceed(Chain.java:", "Shelf$Reader.lambda$find$2(Shelf.java:"};
    for (std::uint32_t i = 0; i < count; ++i) {
      text.put("\tat com.acme.", packages[of], ".internal.");
      if (wide()) text.put("größe.");
      text.put(dice.of(kFrames), Number{dice.between(20, 999)}, ')');
      text.end_line();
    }
  }
  // A line that is a JSON object, of its fields what rules ask of comes first.
  void json(std::size_t of, string_view level, string_view message) {
    json_begin(of, level);
    text.put(message);
    json_end();
  }
  void json_begin(std::size_t of, string_view level) {
    text.put(R"({"time":")");
    time();
    text.put(R"(","service":")", services[of], R"(","level":")", level, R"(","msg":")");
  }
  void json_end() {
    text.put(R"(","user":")");
    name();
    text.put(R"(","trace_id":")", Hex{dice.next(), 16}, R"(","took_ms":)", Number{harmless_ms()}, '}');
    text.end_line();
  }

  Dice dice;
  Text text;
  std::vector<std::string> services, packages;

 private:
  Names names_;
  std::chrono::sys_time<std::chrono::milliseconds> now_ =
      std::chrono::sys_days(std::chrono::year(2025) / 3 / 3) + std::chrono::hours(8);
  std::chrono::sys_seconds stamped_{};
  std::array<char, 96> stamp_{};
};

// --- the workloads -----------------------------------------------------------------------------------------------------------

// Rules, and lines that match them or nearly do. Each call writes whole lines.
class Workload {
 public:
  Workload(Names names, std::uint64_t seed) : out(names, seed) {}
  virtual ~Workload() = default;
  virtual std::string rule(std::size_t i) const = 0;  // in RE2's syntax
  // The fields it asks of, as a configuration's `where:`; "" where a rule is its regex.
  virtual std::string where(std::size_t) const { return {}; }
  virtual void hit(std::size_t rule) = 0;
  virtual void other() = 0;

  Writer out;
};

// What an API writes. Ten shapes of rules; the first ten ask of every service, the further ones of one each.
class ApiLog : public Workload {
 public:
  using Workload::Workload;

  std::string rule(std::size_t i) const override {
    static constexpr std::array<string_view, 10> kOfAll = {
        R"(status=(?P<status>5\d\d))",
        R"(took (\d{4,})ms)",
        R"((?:timeout|timed out|deadline exceeded) (?:connecting to|reading from) (\S+))",
        R"((?i)connection (?:refused|reset))",
        R"(^\S+ (?:FATAL|CRITICAL) )",
        R"(exit status (?P<status>[1-9]\d*)$)",
        R"(^(?:Caused by: )?java\.lang\.OutOfMemoryError: (.*))",
        R"re("level":"(?:error|fatal)")re",
        R"(login failed for user '?(\w+)'? from (\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}))",
        R"((?i)\b(?:panic|segfault|out of memory|oom-killer)\b)"};
    // @ stands for the service.
    static constexpr std::array<string_view, 10> kOfOne = {
        R"(service=@ .*status=(?P<status>4[02]9))",
        R"(service=@ .*took ([6-9]\d\d)ms)",
        R"((?:retrying|giving up) (?:after|on) .* upstream-@\b)",
        R"((?i)tls handshake (?:error|failure) with peer @)",
        R"(^\S+ ERROR +\[@-worker-(\d+)\])",
        R"(job @ finished: killed by signal (?P<signal>\d+)$)",
        R"(^(?:Caused by: )?com\.acme\.@\.[A-Za-z.]+Exception: (.*))",
        R"re("service":"@".*"level":"(?:alert|critical)")re",
        R"(token rejected for user '?(\w+)'? from (\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}) realm=@$)",
        R"(pool @ exhausted: active=(\d+) max=\d+)"};
    if (i < 10) return std::string(kOfAll[i]);
    std::string regex(kOfOne[i % 10]);
    return regex.replace(regex.find('@'), 1, i % 10 == 6 ? out.packages[i / 10] : out.services[i / 10]);
  }

  void hit(std::size_t rule) override {
    if (rule < 10) {
      hit_of_all(rule, out.dice.below(kServices));
    } else {
      hit_of_one(rule % 10, rule / 10);
    }
  }

  void other() override {
    Text& text = out.text;
    Dice& dice = out.dice;
    const std::size_t of = dice.below(kServices);
    if (dice.in_hundred(2)) {
      out.head("WARN ", of);
      text.put("answered from the cache instead, service=", out.services[of], " path=");
      out.path();
      text.end_line();
      text.put("java.lang.IllegalStateException: entry ");
      out.uuid();
      text.put(" of ");
      out.name();
      text.put(" is closed already");
      text.end_line();
      return out.frames(of, dice.between(4, 12));
    }
    if (dice.in_hundred(10)) {
      static constexpr std::array<string_view, 5> kLevels = {"info", "info", "info", "debug", "warn"};
      static constexpr std::array<string_view, 4> kMessages = {"request done", "cache is fresh", "message published",
                                                               "session renewed"};
      return out.json(of, dice.of(kLevels), dice.of(kMessages));
    }
    out.head(out.harmless_level(), of);
    near_miss(of);
    text.end_line();
  }

 protected:
  // What follows the head of a line that matches nothing.
  void near_miss(std::size_t of) {
    Text& text = out.text;
    Dice& dice = out.dice;
    const std::uint32_t percent = dice.below(100);
    if (percent < 62) {
      static constexpr std::array<std::uint32_t, 12> kHarmless = {200, 200, 200, 200, 200, 200, 201, 204, 302, 304, 401, 404};
      out.request(of, dice.of(kHarmless), out.harmless_ms());
    } else if (percent < 70) {
      text.put("cache hit key=session:");
      out.uuid();
      text.put(" ttl=", Number{dice.below(3600)});
    } else if (percent < 76) {
      text.put("pool ", out.services[of], " is fine: active=", Number{dice.below(50)}, " max=50 waiting=", Number{dice.below(3)});
    } else if (percent < 82) {
      text.put("job ", out.services[of], " finished: exit status 0");
    } else if (percent < 88) {
      text.put("login accepted for user '");
      out.user();
      text.put("' from ");
      out.address();
      text.put(" realm=", out.services[of]);
    } else if (percent < 92) {
      text.put("connection to upstream-", out.services[of], " open after ", Number{dice.below(40)}, "ms tls handshake with peer ",
               out.services[of]);
    } else if (percent < 96) {
      text.put("retries left for upstream-", out.services[of], ": ", Number{dice.below(100)}, "%, timeout ",
               Number{dice.between(500, 2999)}, "ms");
    } else {
      text.put("published topic=", out.packages[of], ".events partition=", Number{dice.below(24)},
               " offset=", Number{dice.next() >> 30U}, " bytes=", Number{dice.below(9000)});
    }
  }

 private:
  void hit_of_all(std::size_t shape, std::size_t of) {
    Text& text = out.text;
    Dice& dice = out.dice;
    switch (shape) {
      case 0: {
        static constexpr std::array<std::uint32_t, 4> kStatus = {500, 502, 503, 504};
        out.head("ERROR", of);
        out.request(of, dice.of(kStatus), out.harmless_ms());
        break;
      }
      case 1:
        out.head("WARN ", of);
        out.request(of, 200, dice.between(1000, 30999));
        break;
      case 2: {
        static constexpr std::array<string_view, 3> kHow = {"timeout", "timed out", "deadline exceeded"};
        out.head("WARN ", of);
        text.put(dice.of(kHow), dice.coin() ? " connecting to " : " reading from ", "db-", Number{dice.below(9)},
                 ".internal:5432");
        break;
      }
      case 3: {
        static constexpr std::array<string_view, 3> kHow = {"Connection refused", "connection RESET", "Connection Reset"};
        out.head("WARN ", of);
        // U+017F is an s where case does not matter.
        const bool long_s = out.wide() && dice.in_hundred(10);
        text.put(long_s ? "connection reſet" : dice.of(kHow), " by db-", Number{dice.below(9)});
        break;
      }
      case 4:
        out.head(dice.coin() ? "FATAL" : "CRITICAL", of);
        text.put("configuration not taken over, revision ", Hex{dice.next(), 12});
        break;
      case 5:
        out.head("WARN ", of);
        text.put("job ", out.services[of], " finished: exit status ", Number{dice.between(1, 254)});
        break;
      case 6:
        text.put(dice.coin() ? "Caused by: " : "", "java.lang.OutOfMemoryError: Java heap space for ");
        out.name();
        text.end_line();
        return out.frames(of, dice.between(3, 8));
      case 7:
        return out.json(of, dice.in_hundred(75) ? "error" : "fatal", "nobody caught this");
      case 8:
        out.head("WARN ", of);
        text.put("login failed for user '");
        out.user();
        text.put("' from ");
        out.address();
        break;
      default: {
        static constexpr std::array<string_view, 4> kHow = {"panic", "Segfault", "Out of Memory", "oom-killer"};
        out.head("ERROR", of);
        text.put("child ", Number{dice.below(32768)}, ": ", dice.of(kHow), " in module ", out.packages[of]);
      }
    }
    text.end_line();
  }

  void hit_of_one(std::size_t shape, std::size_t of) {
    Text& text = out.text;
    Dice& dice = out.dice;
    const std::string& name = out.services[of];
    switch (shape) {
      case 0:
        out.head("WARN ", of);
        out.request(of, dice.coin() ? 409 : 429, out.harmless_ms());
        break;
      case 1:
        out.head("WARN ", of);
        out.request(of, 200, dice.between(600, 999));
        break;
      case 2:
        out.head("WARN ", of);
        text.put(dice.coin() ? "retrying after " : "giving up on ", Number{dice.between(1, 9)}, " attempts at upstream-", name,
                 " request=");
        out.uuid();
        break;
      case 3:
        out.head("WARN ", of);
        text.put(dice.coin() ? "TLS handshake failure" : "tls handshake error", " with peer ", name);
        break;
      case 4:
        out.time();
        text.put(" ERROR [", name, "-worker-", Number{dice.below(64)}, "] c.a.core.Scheduler(");
        out.name();
        text.put(") - batch refused, id=");
        out.uuid();
        break;
      case 5:
        out.head("WARN ", of);
        text.put("job ", name, " finished: killed by signal ", Number{dice.between(1, 15)});
        break;
      case 6:
        text.put(dice.coin() ? "Caused by: " : "", "com.acme.", out.packages[of], ".core.Invalid",
                 dice.coin() ? "Order" : "Parcel", "Exception: id=");
        out.uuid();
        text.put(" of ");
        out.name();
        text.end_line();
        return out.frames(of, dice.between(3, 8));
      case 7:
        return out.json(of, dice.coin() ? "alert" : "critical", "replica is too far behind");
      case 8:
        out.head("WARN ", of);
        text.put("token rejected for user '");
        out.user();
        text.put("' from ");
        out.address();
        text.put(" realm=", name);
        break;
      default:
        out.head("WARN ", of);
        text.put("pool ", name, " exhausted: active=50 max=50 waiting=", Number{dice.between(1, 30)});
    }
    text.end_line();
  }
};

// Every line is an object. A rule asks of two fields and, by a regex, of a third.
class JsonLog final : public Workload {
 public:
  using Workload::Workload;

  // For those who know no fields: the same, said of the line as it is written.
  std::string rule(std::size_t i) const override {
    return R"("service":")" + out.services[i % kServices] + R"re(","level":"(?:error|fatal)","msg":"[^"]*)re" +
           std::string(message(i));
  }
  std::string where(std::size_t i) const override {
    std::string escaped;
    for (const char c : message(i))
      escaped += c == '\\' ? "\\\\" : std::string(1, c);
    return R"({"service": ")" + out.services[i % kServices] + R"(", "level": ["error", "fatal"], "msg": {"match": ")" + escaped +
           "\"}}";
  }

  void hit(std::size_t rule) override {
    Dice& dice = out.dice;
    out.json_begin(rule % kServices, dice.coin() ? "error" : "fatal");
    write_message(shape(rule), true);
    out.json_end();
  }
  void other() override {
    static constexpr std::array<string_view, 10> kLevels = {"info", "info",  "info",  "info", "info",
                                                            "info", "debug", "debug", "warn", "error"};
    Dice& dice = out.dice;
    // Harmless in what it says, in its level, or in both: never in the service alone, of which any may be asked.
    const string_view level = dice.of(kLevels);
    out.json_begin(dice.below(kServices), level);
    write_message(dice.below(kMessages.size()), level != "error" && dice.in_hundred(5));
    out.json_end();
  }

 private:
  static constexpr std::array<string_view, 8> kMessages = {R"(took \d{4,} ms)",
                                                           R"((?:connection|stream) (?:refused|reset))",
                                                           R"(status (?P<status>5\d\d))",
                                                           R"(queue \S+ is full)",
                                                           R"(retry \d+ of \d+ failed)",
                                                           R"((?i)disk (?:full|failure))",
                                                           R"(payment .* (?:declined|lost))",
                                                           R"(\blease expired\b)"};

  static std::size_t shape(std::size_t rule) { return (rule / kServices + rule) % kMessages.size(); }
  static string_view message(std::size_t rule) { return kMessages[shape(rule)]; }

  void write_message(std::size_t shape, bool hit) {
    Text& text = out.text;
    Dice& dice = out.dice;
    switch (shape) {
      case 0:
        text.put("request took ", Number{hit ? dice.between(1000, 9999) : out.harmless_ms()}, " ms path ");
        out.path();
        break;
      case 1:
        text.put(dice.coin() ? "connection" : "stream", hit ? (dice.coin() ? " refused" : " reset") : " opened", " by db-",
                 Number{dice.below(9)});
        break;
      case 2:
        text.put("answered with status ", Number{hit ? dice.between(500, 504) : dice.between(200, 204)}, " to ");
        out.address();
        break;
      case 3:
        text.put("queue orders-", Number{dice.below(64)}, hit ? " is full" : " is empty");
        break;
      case 4:
        text.put("retry ", Number{dice.between(1, 5)}, " of 5 ", hit ? "failed" : "succeeded", " for ");
        out.uuid();
        break;
      case 5:
        text.put(dice.coin() ? "disk " : "Disk ", hit ? (dice.coin() ? "full" : "FAILURE") : "mounted", " at /data/",
                 Number{dice.below(24)});
        break;
      case 6:
        text.put("payment ");
        out.uuid();
        text.put(hit ? (dice.coin() ? " declined" : " lost") : " accepted");
        break;
      default:
        text.put("lease ", hit ? "expired" : "renewed", " shard ", Number{dice.below(512)});
    }
  }
};

// Rules that have little in common, as the services of a large house have them: a few words of their own, in their own order,
// between numbers, choices, classes and gaps, with and without anchors and case. The rest of the log is ApiLog's.
class UnrelatedLog final : public ApiLog {
 public:
  UnrelatedLog(std::size_t rules, std::uint64_t seed) : ApiLog(Names::kAscii, seed) {
    for (std::size_t i = 0; i < rules; ++i)
      rules_.push_back(draw(seed * 1'000'003 + i));
  }

  std::string rule(std::size_t i) const override {
    const Rule& rule = rules_[i];
    static constexpr std::array<string_view, 4> kBegin = {"", R"(^\S+ (?:ERROR|FATAL) )", "^",
                                                          R"(^\S+ [A-Z]+ +\[[^]]*\] \S+ - )"};
    std::string regex = rule.fold ? "(?i)" : "";
    regex += kBegin[static_cast<std::size_t>(rule.begin)];
    if (rule.begin == Begin::kLevel) regex += ".*";
    for (const Piece& piece : rule.pieces)
      regex.append(&piece == rule.pieces.data() ? "" : " ").append(piece.regex());
    return regex + (rule.to_end ? "$" : "");
  }

  void hit(std::size_t rule) override { write(rules_[rule], kNone); }

  void other() override {
    Dice& dice = out.dice;
    const std::uint32_t percent = dice.below(100);
    if (percent < 45) return ApiLog::other();
    if (percent < 80) {
      const Rule& rule = dice.of(rules_);
      std::size_t missing = dice.below(rule.pieces.size());
      if (rule.pieces[missing].kind == Kind::kGap) --missing;  // anything fits a gap; before it there is a step
      return write(rule, missing);
    }
    // The words of the rules in a line that none of them is about.
    out.head(out.harmless_level(), dice.below(kServices));
    out.text.put(dice.of(kThings), ' ', dice.of(kFine), ' ', dice.of(kThings), ' ', dice.of(kParts), '=',
                 Number{dice.below(100000)}, ' ', dice.of(kThings));
    out.text.end_line();
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};

  static constexpr std::array<string_view, 64> kThings = {
      "account",  "archive",  "auction",   "backup",   "balance",  "barcode",  "basket",   "beacon",   "broker",   "bucket",
      "calendar", "campaign", "carrier",   "cassette", "chunk",    "cluster",  "contract", "coupon",   "cursor",   "customs",
      "dataset",  "depot",    "device",    "digest",   "document", "endpoint", "envelope", "exporter", "firmware", "forecast",
      "fragment", "grant",    "heartbeat", "inverter", "journal",  "keyring",  "kiosk",    "label",    "license",  "manifest",
      "mandate",  "meter",    "mirror",    "notary",   "pallet",   "passport", "payout",   "planner",  "quota",    "quorum",
      "registry", "replica",  "reservoir", "scanner",  "schema",   "segment",  "shard",    "shipment", "snapshot", "tariff",
      "ticket",   "turbine",  "voucher",   "warehouse"};
  static constexpr std::array<string_view, 48> kBad = {
      "aborted", "abandoned", "ambiguous", "blocked",     "corrupt",   "crashed",    "declined",  "degraded",
      "denied",  "detached",  "diverged",  "dropped",     "duplicate", "exceeded",   "exhausted", "expired",
      "failed",  "flapping",  "forbidden", "frozen",      "garbled",   "halted",     "illegal",   "incomplete",
      "invalid", "leaking",   "locked",    "lost",        "malformed", "missing",    "offline",   "orphaned",
      "overdue", "overflown", "poisoned",  "quarantined", "rejected",  "revoked",    "saturated", "skewed",
      "stale",   "starved",   "truncated", "unbalanced",  "unknown",   "unreadable", "unsigned",  "vanished"};
  static constexpr std::array<string_view, 16> kFine = {"accepted", "archived", "checked", "complete", "current",  "delivered",
                                                        "healthy",  "indexed",  "loaded",  "merged",   "prepared", "ready",
                                                        "renewed",  "signed",   "stored",  "synced"};
  static constexpr std::array<string_view, 24> kParts = {
      "attempt", "batch", "bytes",  "code", "count", "depth", "epoch", "item",  "lag",  "lane",   "offset", "owner",
      "page",    "rank",  "region", "rows", "seq",   "shelf", "slot",  "state", "step", "tenant", "unit",   "zone"};

  enum class Kind { kThing, kBad, kChoice, kNumber, kCode, kHex, kToken, kGap };
  enum class Begin { kAnywhere, kLevel, kLine, kMessage };

  // One step of a rule: its regex, and text that fits it or just does not.
  struct Piece {
    Kind kind = Kind::kThing;
    std::array<string_view, 3> words{};
    std::uint32_t digits = 0;
    bool bound = false;  // \b on both sides

    std::string regex() const {
      const std::string word(words[0]);
      switch (kind) {
        case Kind::kThing:
        case Kind::kBad:
          return bound ? R"(\b)" + word + R"(\b)" : word;
        case Kind::kChoice:
          return "(?:" + word + "|" + std::string(words[1]) + "|" + std::string(words[2]) + ")";
        case Kind::kNumber:
          return word + R"(=(\d{)" + std::to_string(digits) + ",})";
        case Kind::kCode:
          return word + "=(?P<code>[" + std::to_string(digits) + R"(-9]\d))";
        case Kind::kHex:
          return word + " [0-9a-f]{" + std::to_string(digits) + "}";
        case Kind::kToken:
          return word + R"( (\S+))";
        case Kind::kGap:
          return digits % 2 == 0 ? ".*" : ".*?";
      }
      return {};
    }
    void write(Writer& out, bool fits) const {
      Text& text = out.text;
      Dice& dice = out.dice;
      switch (kind) {
        case Kind::kThing:
        case Kind::kBad:
          text.put(fits ? words[0] : dice.of(kFine));
          break;
        case Kind::kChoice:
          text.put(fits ? dice.of(words) : dice.of(kFine));
          break;
        case Kind::kNumber: {
          const std::uint32_t least = digits == 3 ? 100 : digits == 4 ? 1000 : 10000;
          text.put(words[0], '=', Number{fits ? dice.between(least, 10 * least - 1) : dice.below(least)});
          break;
        }
        case Kind::kCode:
          text.put(words[0], '=', Number{fits ? dice.between(digits * 10, 99) : dice.between(10, digits * 10 - 1)});
          break;
        case Kind::kHex:
          text.put(words[0], fits ? " " : " x", Hex{dice.next(), digits});
          break;
        case Kind::kToken:
          text.put(words[0], fits ? " n" : "-", Number{dice.below(10000)}, "/", Hex{dice.next(), 4});
          break;
        case Kind::kGap:
          text.put("for "), out.user(), text.put(" in "), out.text.put(dice.of(out.services));
          break;
      }
    }
  };

  struct Rule {
    Begin begin = Begin::kAnywhere;
    bool fold = false;    // (?i)
    bool to_end = false;  // $
    std::vector<Piece> pieces;
  };

  // Thing, state, and one to three steps more, in an order of its own.
  static Rule draw(std::uint64_t seed) {
    Dice dice(seed);
    Rule rule;
    const std::uint32_t begin = dice.below(100);
    rule.begin = begin < 60 ? Begin::kAnywhere : begin < 80 ? Begin::kLevel : begin < 90 ? Begin::kLine : Begin::kMessage;
    rule.fold = rule.begin == Begin::kAnywhere && dice.in_hundred(20);
    rule.to_end = dice.in_hundred(20);
    const Piece thing{.kind = Kind::kThing, .words = {dice.of(kThings)}, .bound = dice.in_hundred(20)};
    Piece state{.kind = dice.in_hundred(60) ? Kind::kBad : Kind::kChoice};
    const std::uint32_t first = dice.below(kBad.size() / 3);
    for (std::size_t i = 0; i < state.words.size(); ++i)
      state.words[i] = kBad[(first + i * (kBad.size() / 3)) % kBad.size()];
    rule.pieces = {thing, state};
    if (dice.coin()) std::swap(rule.pieces[0], rule.pieces[1]);
    bool has_code = false, has_gap = false;  // at most one of each
    for (std::uint32_t more = dice.between(1, 3); more > 0; --more) {
      static constexpr std::array<Kind, 7> kMore = {Kind::kNumber, Kind::kCode, Kind::kHex,   Kind::kToken,
                                                    Kind::kThing,  Kind::kGap,  Kind::kChoice};
      Piece piece{.kind = dice.of(kMore), .words = {dice.of(kParts)}};
      if (piece.kind == Kind::kCode && has_code) piece.kind = Kind::kNumber;
      if (piece.kind == Kind::kGap && has_gap) piece.kind = Kind::kToken;
      has_code = has_code || piece.kind == Kind::kCode;
      has_gap = has_gap || piece.kind == Kind::kGap;
      if (piece.kind == Kind::kThing) piece.words[0] = dice.of(kThings);
      if (piece.kind == Kind::kChoice) piece.words = {dice.of(kThings), dice.of(kThings), dice.of(kParts)};
      piece.digits = piece.kind == Kind::kNumber ? dice.between(3, 5)
                     : piece.kind == Kind::kCode ? dice.between(3, 8)
                                                 : dice.between(4, 12);
      if (piece.kind == Kind::kHex && rule.fold) piece.kind = Kind::kToken;  // a class of letters: to_ere() leaves its case
      const bool gap = piece.kind == Kind::kGap;                             // between two steps, or it is none
      const std::size_t at = gap ? 1 + dice.below(rule.pieces.size() - 1) : dice.below(rule.pieces.size() + 1);
      rule.pieces.insert(rule.pieces.begin() + static_cast<std::ptrdiff_t>(at), piece);
    }
    return rule;
  }

  // A line that fits the rule, but for the step that `missing` numbers.
  void write(const Rule& rule, std::size_t missing) {
    Text& text = out.text;
    Dice& dice = out.dice;
    if (rule.begin == Begin::kLevel) {
      out.head(dice.coin() ? "ERROR" : "FATAL", dice.below(kServices));
    } else if (rule.begin != Begin::kLine) {
      out.head("WARN ", dice.below(kServices));
    }
    const std::size_t from = text.bytes().size();
    for (std::size_t i = 0; i < rule.pieces.size(); ++i)
      text.put(i == 0 ? "" : " "), rule.pieces[i].write(out, i != missing);
    if (rule.fold && dice.coin()) {
      for (std::size_t i = from; i < text.bytes().size(); ++i)
        text.bytes()[i] = upper(text.bytes()[i]);
    }
    if (!rule.to_end) {
      text.put(" request=");
      out.uuid();
    }
    text.end_line();
  }
  static char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

  std::vector<Rule> rules_;
};

// --- what is written of them -------------------------------------------------------------------------------------------------

// RE2's syntax as far as the rules above use it, for grep -E: it has \S, \w and \b, and neither \d nor what follows "(?".
std::string to_ere(string_view regex) {
  std::string out;
  bool in_class = false, fold = false;
  for (std::size_t i = 0; i < regex.size(); ++i) {
    const char c = regex[i];
    const string_view rest = regex.substr(i);
    if (rest.starts_with("(?i)")) {
      fold = true;
      i += 3;
    } else if (rest.starts_with("\\d")) {
      out += in_class ? "0-9" : "[0-9]";
      ++i;
    } else if (c == '\\') {
      out += rest.substr(0, 2);
      ++i;
    } else if (rest.starts_with("(?:")) {
      out += '(';
      i += 2;
    } else if (rest.starts_with("(?P<")) {
      out += '(';
      i += rest.find('>');
    } else if (rest.starts_with(".*?")) {
      out += ".*";
      i += 2;
    } else if (fold && !in_class && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) {
      out += {'[', static_cast<char>(c | 0x20), static_cast<char>(c & ~0x20), ']'};
    } else {
      // A ] that comes first is one of the class.
      if (c == '[') in_class = true;
      if (c == ']' && !out.ends_with("[^")) in_class = false;
      out += c;
    }
  }
  return out;
}

// Without the names of captures: ripgrep makes one regex of all rules, in which a name may stand once. And with RE2's \b,
// that knows no letters but ASCII's: with its own, ripgrep reads 0.4 MB/s of what is not ASCII.
std::string to_rg(string_view regex) {
  constexpr string_view kName = "(?P<", kBound = R"(\b)", kOurBound = R"((?-u:\b))";
  std::string out(regex);
  for (std::size_t at = 0; (at = out.find(kName, at)) != std::string::npos; ++at)
    out.erase(at + 1, out.find('>', at) - at);
  for (std::size_t at = 0; (at = out.find(kBound, at)) != std::string::npos; at += kOurBound.size())
    out.replace(at, kBound.size(), kOurBound);
  return out;
}

// A counter a rule, each asked on every line.
std::string to_mtail(const std::vector<std::string>& rules) {
  std::string counters, actions;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const std::string name = "r" + std::to_string(i);
    counters += "counter " + name + "\n";
    actions += '/';
    for (const char c : rules[i])
      actions += c == '/' ? "\\/" : std::string(1, c);
    actions += "/ {\n  " + name + "++\n}\n";
  }
  return counters + actions;
}

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

[[noreturn]] void fail(const std::string& what) {
  std::perror(what.c_str());
  std::exit(1);
}

File create(const std::string& path) {
  File file(std::fopen(path.c_str(), "wb"));
  if (!file) fail(path);
  return file;
}

void write(const File& file, string_view bytes, const std::string& path) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size() || std::fflush(file.get()) != 0) fail(path);
}

std::unique_ptr<Workload> make(string_view variant, std::size_t rules, std::uint64_t seed) {
  if (variant == "ascii") return std::make_unique<ApiLog>(Names::kAscii, seed);
  if (variant == "wide") return std::make_unique<ApiLog>(Names::kWide, seed);
  if (variant == "broken") return std::make_unique<ApiLog>(Names::kBroken, seed);
  if (variant == "json") return std::make_unique<JsonLog>(Names::kAscii, seed);
  if (variant == "unrelated") return std::make_unique<UnrelatedLog>(rules, seed);
  return nullptr;
}

void write_rules(const Workload& workload, std::size_t count, const std::string& directory) {
  std::vector<std::string> rules;
  std::string re2, rg, ere, where;
  for (std::size_t i = 0; i < count; ++i) {
    rules.push_back(workload.rule(i));
    re2 += rules.back() + "\n";
    rg += to_rg(rules.back()) + "\n";
    ere += to_ere(rules.back()) + "\n";
    const std::string fields = workload.where(i);
    if (!fields.empty()) where += fields + "\n";
  }
  const auto put = [&](const char* name, string_view bytes) {
    const std::string path = directory + "/" + name;
    write(create(path), bytes, path);
  };
  put("rules.re2", re2);
  put("rules.rg", rg);
  put("rules.ere", ere);
  put("rules.mtail", to_mtail(rules));
  if (!where.empty()) put("rules.where", where);
}

void write_log(Workload& workload, std::size_t rules, double rate, std::uint64_t size, const std::string& path) {
  constexpr std::size_t kBlock = 1024 * 1024;
  const File file = create(path);
  Writer& out = workload.out;
  std::uint64_t written = 0;
  double next_hit = out.dice.gap(rate);
  for (bool full = false; !full;) {
    std::string& bytes = out.text.bytes();
    bytes.clear();
    while (bytes.size() < kBlock) {
      out.pass_time();
      // Where an event has many lines hits fall behind, and follow each other until there are as many as there should be.
      if (static_cast<double>(out.text.lines()) < next_hit) {
        workload.other();
      } else {
        workload.hit(out.dice.below(rules));
        next_hit += out.dice.gap(rate);
      }
    }
    string_view block = bytes;
    if (written + block.size() >= size) {
      block = block.substr(0, size - written);
      block = block.substr(0, block.rfind('\n') + 1);
      full = true;
    }
    write(file, block, path);
    written += block.size();
  }
}

int usage() {
  std::fputs(
      "usage: generate rules VARIANT RULES SEED DIRECTORY\n"
      "       generate log VARIANT RULES SEED RATE BYTES FILE\n"
      "VARIANT is ascii, wide, broken, json or unrelated.\n",
      stderr);
  return 64;
}

}  // namespace

int main(int count, char** values) {
  const std::vector<std::string> arguments(values, values + count);
  const bool log = count == 8 && arguments[1] == "log";
  if (!log && !(count == 6 && arguments[1] == "rules")) return usage();
  const std::size_t rules = std::strtoull(values[3], nullptr, 10);
  const std::unique_ptr<Workload> workload = make(arguments[2], rules, std::strtoull(values[4], nullptr, 10));
  if (!workload || rules == 0 || rules > 10 * kServices) return usage();
  if (!log) {
    write_rules(*workload, rules, arguments[5]);
    return 0;
  }
  const double rate = std::strtod(values[5], nullptr);
  if (!(rate > 0 && rate < 1)) return usage();
  write_log(*workload, rules, rate, std::strtoull(values[6], nullptr, 10), arguments[7]);
  return 0;
}
