// JournalSource: systemd's journal, entry by entry, from a cursor on. Journal: what it asks of libsystemd.
//
// Owned by the reader thread. Built with LOGBELL_JOURNALD; without it there is no journal to open.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/source.h"
#include "rules/plan.h"
#include "rules/result.h"
#include "rules/time.h"

namespace logbell::engine {

// sd-journal(3), as far as it is used: the same names and the same answers, negative ones being an errno. A
// test has one that fails.
class Journal {
 public:
  enum class Change { kNothing, kAppended, kInvalidated };

  virtual ~Journal() = default;
  virtual int fd() const = 0;
  virtual bool fd_is_reliable()
      const = 0;  // false: not every change makes it readable (a remote file system)
  // Takes note of what happened to the files; must be called when fd() is readable.
  virtual rules::Result<Change> process() = 0;
  virtual int seek_head() = 0;
  virtual int seek_realtime(std::uint64_t microseconds) = 0;
  virtual int seek_cursor(const std::string& cursor) = 0;
  virtual int test_cursor(const std::string& cursor) = 0;  // > 0: that is where we stand
  virtual int next() = 0;  // > 0: we stand at the next entry; 0: there is none
  virtual int get_realtime(std::uint64_t& microseconds) = 0;
  virtual int get_cursor(std::string& cursor) = 0;
  virtual int get_field(const char* name, std::string& value) = 0;
  virtual int oldest(std::uint64_t& microseconds) = 0;
};

// The journal of this machine, or of a directory, of these units or of all. kNotFound: there is no file that
// may be read.
rules::Result<std::unique_ptr<Journal>> open_journal(const rules::StreamSpec& spec);
// Whether there can be one: built with LOGBELL_JOURNALD.
bool has_journald();

class JournalSource final : public Source {
 public:
  // A file that is replaced under us is looked for again so often at once; then the read has failed, and is
  // tried again later.
  static constexpr int kMaxRetries = 3;
  static constexpr rules::Duration kPoll{std::chrono::seconds(1)};  // where fd() is not reliable

  // Goes on at `place`, as place() gave it; without one, with the entries from `begin` on (kLongAgo: all).
  JournalSource(std::unique_ptr<Journal> journal, const std::optional<std::string>& place,
                rules::Timestamp begin);

  // An entry is a record of RFC 5424 whose MSGID is the unit's name. After an error nothing was lost.
  rules::Result<ReadStatus> read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                 Chunk& into) override;
  std::uint64_t offset() const override { return offset_; }
  std::uint64_t known_size() const override { return offset_; }
  std::uint64_t pending() const override { return 0; }
  bool pending_is_evaluated() const override { return true; }
  int wake_fd() const override { return journal_->fd(); }
  StreamLook look(rules::Instant now) override;
  StreamNews take_news() override;
  std::optional<std::string> place() const override;
  // The time of the oldest entry that is there.
  std::optional<rules::Timestamp> oldest() const;

 private:
  rules::Result<void> begin();
  rules::Result<int> next();
  void append(std::size_t max_line_bytes, std::string& out, Chunk& into);

  std::unique_ptr<Journal> journal_;
  std::string cursor_;             // of the last entry that was read; "": none yet
  std::uint64_t realtime_us_ = 0;  // its time; without one, where to begin
  bool begun_ = false;
  bool at_end_ = false;
  std::string field_;
  std::uint64_t offset_ = 0;
  std::uint64_t unreadable_ = 0;
  bool lost_place_ = false;
};

}  // namespace logbell::engine
