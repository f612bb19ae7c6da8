#include "engine/io/journal_source.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include <fmt/format.h>
#include <poll.h>
#if LOGBELL_HAS_JOURNALD
#include <systemd/sd-journal.h>
#endif

#include "engine/io/syslog.h"
#include "rules/json.h"

namespace logbell::engine {
namespace {

using rules::ErrorCode;
using rules::fail;
using rules::Json;
using rules::Result;
using rules::Timestamp;

// What journald says when a file goes away, is rotated or is replaced while we stand in it.
bool is_passing(int error) {
  return error == -EBADMSG || error == -EADDRNOTAVAIL || error == -EIDRM || error == -ESTALE;
}

tl::unexpected<rules::Error> failed(std::string_view doing, int error) {
  return fail(ErrorCode::kIo, fmt::format("{}: {}", doing, rules::errno_text(-error)));
}

// A word of RFC 5424's header: no blanks, no control characters.
std::string header_word(std::string_view text, std::size_t most) {
  std::string word(text.substr(0, most));
  std::replace_if(
      word.begin(), word.end(), [](char c) { return c <= ' ' || c == '\x7F'; }, '_');
  return word.empty() ? "-" : word;
}

#if LOGBELL_HAS_JOURNALD

class SystemdJournal final : public Journal {
 public:
  explicit SystemdJournal(sd_journal* journal) : journal_(journal), fd_(sd_journal_get_fd(journal)) {}
  ~SystemdJournal() override { sd_journal_close(journal_); }
  SystemdJournal(const SystemdJournal&) = delete;
  SystemdJournal& operator=(const SystemdJournal&) = delete;

  int fd() const override { return fd_; }
  bool fd_is_reliable() const override { return fd_ >= 0 && sd_journal_reliable_fd(journal_) > 0; }
  Result<Change> process() override {
    const int change = sd_journal_process(journal_);
    if (change < 0) return failed("look at the journal", change);
    return change == SD_JOURNAL_NOP      ? Change::kNothing
           : change == SD_JOURNAL_APPEND ? Change::kAppended
                                         : Change::kInvalidated;
  }
  int seek_head() override { return sd_journal_seek_head(journal_); }
  int seek_realtime(std::uint64_t us) override { return sd_journal_seek_realtime_usec(journal_, us); }
  int seek_cursor(const std::string& cursor) override {
    return sd_journal_seek_cursor(journal_, cursor.c_str());
  }
  int test_cursor(const std::string& cursor) override {
    return sd_journal_test_cursor(journal_, cursor.c_str());
  }
  int next() override { return sd_journal_next(journal_); }
  int get_realtime(std::uint64_t& us) override { return sd_journal_get_realtime_usec(journal_, &us); }
  int get_cursor(std::string& cursor) override {
    char* text = nullptr;
    const int got = sd_journal_get_cursor(journal_, &text);
    if (got < 0) return got;
    cursor = text;
    ::free(text);  // NOLINT(cppcoreguidelines-no-malloc): libsystemd gives it to be freed
    return got;
  }
  int get_field(const char* name, std::string& value) override {
    const void* data = nullptr;
    std::size_t size = 0;
    const int got = sd_journal_get_data(journal_, name, &data, &size);
    if (got < 0) return got;
    const std::size_t prefix = std::strlen(name) + 1;  // "NAME="
    value.assign(static_cast<const char*>(data) + std::min(prefix, size), size - std::min(prefix, size));
    return got;
  }
  int oldest(std::uint64_t& us) override {
    return sd_journal_get_cutoff_realtime_usec(journal_, &us, nullptr);
  }

  // What `journalctl -u` shows: a unit's own entries, and what systemd says of it.
  int match_unit(const std::string& unit) {
    const std::array<std::vector<std::string>, 3> alternatives{
        std::vector<std::string>{"_SYSTEMD_UNIT=" + unit},
        {"_PID=1", "UNIT=" + unit},
        {"_UID=0", "OBJECT_SYSTEMD_UNIT=" + unit}};
    for (const std::vector<std::string>& alternative : alternatives) {
      for (const std::string& match : alternative) {
        if (const int added = sd_journal_add_match(journal_, match.data(), match.size()); added < 0)
          return added;
      }
      if (const int added = sd_journal_add_disjunction(journal_); added < 0) return added;
    }
    return 0;
  }
  void keep_of_a_field(std::size_t bytes) { sd_journal_set_data_threshold(journal_, bytes); }
  bool has_files() {
    std::uint64_t bytes = 0;
    return sd_journal_get_usage(journal_, &bytes) >= 0 && bytes > 0;
  }

 private:
  sd_journal* journal_;
  int fd_;
};

#endif

}  // namespace

#if LOGBELL_HAS_JOURNALD

bool has_journald() {
  return true;
}

Result<std::unique_ptr<Journal>> open_journal(const rules::StreamSpec& spec) {
  const std::string what = spec.address.empty() ? "open the journal" : "open the journal in " + spec.address;
  sd_journal* handle = nullptr;
  const int opened = spec.address.empty() ? sd_journal_open(&handle, SD_JOURNAL_LOCAL_ONLY)
                                          : sd_journal_open_directory(&handle, spec.address.c_str(), 0);
  if (opened == -ENOENT) return fail(ErrorCode::kNotFound, what + ": " + rules::errno_text(ENOENT));
  if (opened < 0) return failed(what, opened);
  auto journal = std::make_unique<SystemdJournal>(handle);
  // Files that may not be read are passed over without a word.
  if (!journal->has_files())
    return fail(ErrorCode::kNotFound,
                what + ": there is no file that may be read; logbell must be in the group systemd-journal");
  for (const std::string& unit : spec.units) {
    if (const int added = journal->match_unit(unit); added < 0) return failed(what, added);
  }
  return std::unique_ptr<Journal>(std::move(journal));
}

#else

bool has_journald() {
  return false;
}

Result<std::unique_ptr<Journal>> open_journal(const rules::StreamSpec& /*spec*/) {
  return fail(ErrorCode::kInvalid, "open the journal: this logbell was built without it");
}

#endif

JournalSource::JournalSource(std::unique_ptr<Journal> journal, const std::optional<std::string>& place,
                             Timestamp begin)
    : journal_(std::move(journal)) {
  if (begin != rules::kLongAgo)
    realtime_us_ = static_cast<std::uint64_t>(std::max<std::int64_t>(rules::to_unix_ms(begin), 0)) * 1000;
  if (!place) return;
  const Result<Json> json = Json::parse(*place);
  if (!json) return;
  if ((*json)["cursor"].is_string()) cursor_ = (*json)["cursor"].string();
  if ((*json)["realtime_us"].is_integer())
    realtime_us_ = static_cast<std::uint64_t>(std::max<std::int64_t>((*json)["realtime_us"].integer(), 0));
}

std::optional<std::string> JournalSource::place() const {
  Json json;
  json.set("cursor", cursor_).set("realtime_us", static_cast<std::int64_t>(realtime_us_));
  return json.dump();
}

std::optional<Timestamp> JournalSource::oldest() const {
  std::uint64_t microseconds = 0;
  if (journal_->oldest(microseconds) <= 0) return std::nullopt;
  return rules::from_unix_ms(static_cast<std::int64_t>(microseconds / 1000));
}

// Where reading begins, or went on when a file was lost under us: behind the entry that was read last. If
// that is gone (vacuumed, another boot's), behind its time.
Result<void> JournalSource::begin() {
  if (!cursor_.empty()) {
    const int found = journal_->seek_cursor(cursor_);
    const int moved = found < 0 ? found : journal_->next();
    // A cursor that is not there leads to what is near it; only this tells.
    if (moved > 0 && journal_->test_cursor(cursor_) > 0) return {};
    if (is_passing(moved)) return failed("read the journal", moved);
    lost_place_ = true;
    cursor_.clear();
    ++realtime_us_;
  }
  const int found = realtime_us_ == 0 ? journal_->seek_head() : journal_->seek_realtime(realtime_us_);
  if (found < 0) return failed("seek in the journal", found);
  return {};
}

// 1: we stand at the next entry; 0: there is none at the moment.
Result<int> JournalSource::next() {
  int moved = 0;
  for (int tries = 0; tries <= kMaxRetries; ++tries) {
    if (!begun_) {
      if (Result<void> there = begin(); !there) {
        static_cast<void>(journal_->process());
        moved = -EBADMSG;
        continue;
      }
      begun_ = true;
    }
    moved = journal_->next();
    if (moved >= 0) return moved > 0 ? 1 : 0;
    if (!is_passing(moved)) break;
    // It closes what is gone and opens what is new; then we look for our place again.
    static_cast<void>(journal_->process());
    begun_ = false;
  }
  begun_ = false;
  return failed("read the journal", moved);
}

void JournalSource::append(std::size_t max_line_bytes, std::string& out, Chunk& into) {
  const auto field = [&](const char* name) -> std::string_view {
    field_.clear();
    return journal_->get_field(name, field_) < 0 ? std::string_view() : std::string_view(field_);
  };
  const auto number = [&](const char* name, int least, int most, int otherwise) {
    const std::string_view text = field(name);
    int value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && !text.empty() && value >= least && value <= most ? value : otherwise;
  };
  const auto first_of = [&](std::initializer_list<const char*> names, std::size_t most) {
    for (const char* name : names) {
      if (const std::string_view text = field(name); !text.empty()) return header_word(text, most);
    }
    return std::string("-");
  };
  const int priority = 8 * number("SYSLOG_FACILITY", 0, 23, 3) + number("PRIORITY", 0, 7, 6);
  std::string record = fmt::format(
      "<{}>1 {} {} {} {} {} - ", priority,
      rules::format_rfc3339(rules::from_unix_ms(static_cast<std::int64_t>(realtime_us_ / 1000))),
      first_of({"_HOSTNAME"}, 255), first_of({"SYSLOG_IDENTIFIER", "_COMM"}, 255),
      first_of({"_PID", "SYSLOG_PID"}, 128), first_of({"UNIT", "OBJECT_SYSTEMD_UNIT", "_SYSTEMD_UNIT"}, 255));
  field_.clear();
  const int got = journal_->get_field("MESSAGE", field_);
  if (got == -ENOENT) return;  // an entry need not have one: then it says nothing
  if (got < 0) {
    ++unreadable_;
    return;
  }
  std::string_view message = field_;
  if (message.size() > max_line_bytes) {
    message = cut_utf8(message, max_line_bytes);
    ++into.truncated;
  }
  record.append(message);
  if (append_record(record, out)) ++into.lines;
}

Result<ReadStatus> JournalSource::read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                       Chunk& into) {
  into = {};
  buffer.scratch.clear();
  ReadStatus status;
  while (buffer.scratch.size() < limit) {
    const Result<int> moved = next();
    // What was read before stays read; the error comes again.
    if (!moved && !buffer.scratch.empty()) break;
    if (!moved) return fail(moved.error());
    if (*moved == 0) {
      status.at_end = true;
      break;
    }
    std::uint64_t realtime = 0;
    std::string cursor;
    if (journal_->get_realtime(realtime) < 0 || journal_->get_cursor(cursor) < 0) {
      ++unreadable_;
      continue;
    }
    cursor_ = std::move(cursor);
    realtime_us_ = realtime;
    append(rules.max_line_bytes, buffer.scratch, into);
    ++status.bytes;  // also where it says nothing: its place counts
  }
  status.bytes = std::max<std::uint64_t>(status.bytes, buffer.scratch.size());
  into.block = buffer.scratch;
  offset_ += status.bytes;
  status.grew = status.bytes > 0;
  at_end_ = status.at_end;
  return status;
}

StreamLook JournalSource::look(rules::Instant now) {
  StreamLook look;
  look.ready = !at_end_;
  pollfd changed{journal_->fd(), POLLIN, 0};
  const bool reliable = journal_->fd_is_reliable();
  if (!reliable) look.again = now + kPoll;
  if (!reliable || (journal_->fd() >= 0 && ::poll(&changed, 1, 0) > 0)) {
    // A rotation or a vacuum says "invalidated": entries are only ever added or gone, so it means no more
    // than that there may be some. An error is told by the read.
    const Result<Journal::Change> change = journal_->process();
    if (!change || *change != Journal::Change::kNothing) look.ready = true;
  }
  if (look.ready) at_end_ = false;
  return look;
}

StreamNews JournalSource::take_news() {
  StreamNews news;
  if (unreadable_ > 0) {
    news.counts.push_back(
        {"logbell_source_journal_entries_unreadable_total", {}, {}, static_cast<double>(unreadable_)});
    news.gap = "journal_unreadable";
  }
  unreadable_ = 0;
  if (lost_place_) {
    news.warnings.emplace_back(
        "The entry that was read last is not in the journal any more. It goes on with what is younger; what "
        "was "
        "between is lost.");
    news.gap = "journal_vacuumed";
  }
  lost_place_ = false;
  return news;
}

}  // namespace logbell::engine
