// Follower: which files each source has at the moment, what became of those it had, and which may have more
// to read.
//
// Owned by the reader thread. It finds files, notices rotation, deletion and links, and keeps the place in
// each across restarts and reloads; the reader (engine/run/reader.h) does the reading. Nothing in it waits.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/core/batch.h"
#include "engine/io/decode.h"
#include "engine/io/file_source.h"
#include "engine/io/glob.h"
#include "engine/io/records.h"
#include "engine/io/socket_source.h"
#include "engine/io/watch.h"
#include "engine/run/event_time.h"
#include "engine/run/feedback.h"
#include "rules/plan.h"
#include "rules/time.h"

namespace logbell::engine {

// Something an operator could act upon; the runtime logs it. Once when it begins, once when it is over.
struct ReaderNote {
  enum class Level { kInfo, kWarn, kError };
  Level level = Level::kInfo;
  std::string source;
  std::string path;
  std::string message;
};

// What has been counted and noted since it was last taken.
class Ledger {
 public:
  void add(const std::string& name, const rules::Labels& labels, double by);
  void note(ReaderNote note);
  std::vector<CounterDelta> take_counters();
  std::vector<ReaderNote> take_notes();
  bool empty() const { return counters_.empty(); }

 private:
  std::map<std::pair<std::string, rules::Labels>, double> counters_;
  std::vector<ReaderNote> notes_;
};

// One stream that is followed: a file, whatever its names, or standard input.
struct Tail {
  std::uint32_t source = 0;  // index into Plan::sources
  std::string path;          // the last name that a pattern found it by
  std::string real;          // where that name led to: rotated ones lie beside it
  std::unique_ptr<Source> stream;
  FileSource* file = nullptr;              // the same; null for what is no file
  std::optional<rules::StreamSpec> input;  // what it is then; unset: standard input
  std::optional<FileWatch::Id> watch;
  std::unique_ptr<RecordDecoder>
      decoder;       // of a source whose lines are not its records; made at the first read
  OpenRecords lent;  // what its file holds of records that its successor goes on with

  bool linked = true;  // a pattern still leads to it; else it is drained and then let go
  bool deleted = false;
  bool dirty = false;             // may have more than was read; false: it is read to its end
  bool flush = false;             // hand over its unfinished line with the next read
  bool flush_records = false;     // and its unfinished records: those that have waited long enough
  bool flush_everything = false;  // all of them
  bool live = false;              // was read to its end before: what comes now was written now
  bool ended = false;             // for good
  bool copy = false;              // of what another file held before it was cut: it never had the name
  bool came_unseen = false;       // while nobody looked: as a copy it holds all that had been read
  bool may_be_copy = false;       // new, and nothing of it was read; another that is followed may hold the same
  bool orphan = false;            // a reload took its source away; another may claim it
  std::string orphan_of;          // the name of that source
  bool read_out = false;          // the last read of it came to its end
  bool overwritten = false;       // a copy into which somebody copied anew: of what it holds nothing was read
  bool resumed = false;           // a former process, or an earlier look, knew it
  bool left = false;              // its writer had turned to another file, and has not come back since
  std::optional<FileStat> was;    // what it was, as far as that was stored, before it was compressed
  std::optional<Content> cut;     // a former process knew it with this, which it does not hold any more
  OpenRecords cut_open;           // and what was unfinished of it
  std::string trouble;            // why what is compressed ended early: said once
  std::string former;             // where it was then
  std::optional<std::int64_t> emptied_ns;  // nothing was read since it was cut; when it was modified last, as it was looked at
  std::optional<std::int64_t> empty_since_ns;  // a former process had read nothing of it; when it was modified last
  bool renamed = false;           // by anyone, while it was followed
  bool detached = false;          // it is mounted by itself, and its name where it comes from may be another file's
  bool changed = false;           // its position is not in a batch yet
  std::uint64_t scan = 0;         // the last one that found it
  Tail* predecessor = nullptr;    // what its name meant before: read first
  rules::Instant grown_at;
  rules::Instant unlinked_at;
  rules::Instant dirty_since;

  std::string error;  // reading fails; "" = it does not
  rules::Instant failing_since;
  rules::Instant retry_at;
  rules::Duration back_off{0};

  rules::Timestamp watermark = rules::kLongAgo;  // latest believed event time
  rules::Timestamp last_time = rules::kLongAgo;  // of its last line
};

// What is known of a source beyond its single streams.
struct FollowedSource {
  const rules::SourceSpec* spec = nullptr;
  rules::Duration window{0};  // the longest of the rules that use it
  bool placing = true;        // never followed before: what is there at the first scan is not read in full
  bool scanned = false;
  bool scan_due = true;
  bool unwatched = false;  // a directory of it has no watch: look often
  std::size_t polled = 0;  // streams without a watch
  std::size_t open = 0;    // streams
  std::optional<rules::Timestamp> watched_from;
  bool changed = true;                           // its entry is not in a batch yet
  std::optional<std::int64_t> seen_ns;           // a former process knew every file that was born before
  std::int64_t looked_ns = 0;                    // this one does, by the clock of births
  rules::Timestamp known_at = rules::kLongAgo;   // wall time of the last look at all of it
  rules::Timestamp watermark = rules::kLongAgo;  // latest believed event time of all its streams
  std::optional<rules::Timestamp> last_line_at;
  OffsetEstimate offset;

  struct Trouble {
    std::string error;
    rules::Instant retry_at;
    rules::Duration back_off{0};
    std::uint64_t scan = 0;
    bool opening = false;  // it was found, but could not be opened: not tried again before retry_at
    bool succeeds = false;  // it has the name of what was read
  };
  // Whether rules miss what may be in it: what was never a log is none.
  static bool is_missed(const Trouble& trouble);
  std::map<std::string, Trouble> troubles;  // by path
  std::set<std::string> met;                // of `files:`: paths at which a file was found
  // What cannot be read for another reason, by path, as of the last scan: paths at which no file is (a pattern may well
  // match nothing), nor one that had the name is read, and files that are detached.
  struct Missing {
    std::string why;  // behind the path
    bool succeeds = false;
  };
  std::map<std::string, Missing> missing;
  std::set<std::string> duplicates;         // paths that lead to what is read already: said once
  std::set<std::string> own;                // paths that lead to what this process writes: said once
  bool told_packed = false;                 // that compressed files are not followed: said once
};

class Follower {
 public:
  // How long a file without a name (rotated, deleted) is kept after it last grew: a writer reopens within it.
  static constexpr rules::Duration kRotateWait{std::chrono::seconds(5)};
  // A line without its end is handed over after so long without another byte.
  static constexpr rules::Duration kPartialTimeout{std::chrono::seconds(5)};
  // A deleted file takes up space as long as it is open.
  static constexpr rules::Duration kDeletedMaxAge{std::chrono::seconds(60)};
  // A rotated file whose writer has not turned to the new one is kept longer after it last grew.
  static constexpr rules::Duration kRotatedMaxAge{std::chrono::minutes(10)};
  // Where there is no watch; and where there is one, in case something can change unseen (mmap).
  static constexpr rules::Duration kPollInterval{std::chrono::seconds(1)};
  static constexpr rules::Duration kSafetyInterval{std::chrono::seconds(10)};
  static constexpr rules::Duration kFirstBackOff{std::chrono::seconds(1)};
  static constexpr rules::Duration kMaxBackOff{std::chrono::seconds(30)};
  // Open at once; more are counted and left until there is room. What the process may have open
  // (engine/io/descriptors.h) may be less.
  static constexpr std::size_t kMaxFiles = 20'000;
  static constexpr std::size_t kMaxRetired = 256;
  // Places of files that a reload took out of the configuration; one that brings them back finds them.
  static constexpr std::size_t kMaxLeft = 1024;

  // The ledger and the feedback (which may be null) must outlive me.
  Follower(Ledger& ledger, int stdin_fd, bool use_inotify, Feedback* feedback = nullptr,
           std::size_t max_files = kMaxFiles, std::size_t max_connections = kMaxFiles);
  ~Follower();

  // What is read is past: files are read whatever they are compressed with that we know, however much they
  // hold, and none is rotated. Before the first look.
  void read_past() { past_ = true; }

  // Positions as batches carried them.
  void restore(const std::vector<StoredEntry>& entries);
  // Streams that the new plan still reads keep their place. Entries to write come with take_entries().
  void replace_plan(std::shared_ptr<const rules::Plan> plan);

  // What of `source` cannot be read, and why.
  static void describe_unreadable(const FollowedSource& source, SourceStatus& status);

  // Everything that was written before `now` is in a dirty stream afterwards (of what has no watch: only if
  // `everything`, or when it is due).
  void look(rules::Timestamp now, rules::Instant instant, bool everything);
  // A read of `tail` found it cut. If what it held goes on in a copy of it (copytruncate), that is read
  // before what it holds now, and `status` says of nothing that it is lost.
  void find_copy(Tail& tail, ReadStatus& status);
  // A read of `tail` began at its beginning. If it had been cut before, and what was written since was copied and cut as
  // well, lines may be missing.
  void find_copy_of_unread(Tail& tail, ReadStatus& status);
  // Before a read: of a new file with the name of a rotated one, as a pattern such as `app.log*` finds them, passes what
  // was read, or will be, where it was copied from.
  void pass_copied(Tail& tail);
  // Tells what a read of `tail` found.
  void after_read(Tail& tail, const ReadStatus& status, rules::Timestamp now, rules::Instant instant);
  void after_failure(Tail& tail, const rules::Error& error, rules::Instant instant);
  // The process ends: the unfinished last line of a file that nobody can find again waits no longer, and no
  // record does.
  void flush_last();
  // Its position must be stored.
  void mark_changed(Tail& tail);
  // Lines are missing: rules that look back beyond `from` no longer know everything.
  void gap(std::uint32_t index, std::string_view cause, rules::Timestamp from);

  std::vector<FollowedSource>& sources() { return sources_; }
  const std::vector<FollowedSource>& sources() const { return sources_; }
  const std::vector<std::unique_ptr<Tail>>& tails() const { return tails_; }
  // Those that may have more. Valid until the next call of a non-const member.
  const std::vector<Tail*>& dirty() const { return dirty_; }
  // Positions and sources that have changed since the last call.
  std::vector<StoredEntry> take_entries();
  // Whether among the entries to take are files that no position knew.
  bool found_files() const { return found_files_; }

  rules::Instant next_timer() const { return next_timer_; }
  int watch_fd() const { return watch_.fd(); }

 private:
  struct Saved {
    std::string key;
    std::string source;
    FilePosition position;
    std::string found_by = {};  // the name that a pattern found it by
  };

  void take_events();
  void run_timers();
  void poll(bool all);
  void scan(std::uint32_t index);
  void find(std::uint32_t index, std::vector<FoundFile>& fresh);
  void meet(std::uint32_t index, const FoundFile& file, std::vector<FoundFile>& fresh);
  using Listings = std::map<std::string, std::vector<std::string>>;  // each directory once: many may be in it
  void follow_fresh(std::uint32_t index, const FoundFile& file, Tail* before, Listings& listed);
  std::set<std::string> recover_rotated(std::uint32_t index);
  Tail* recover(std::uint32_t index, const Saved& saved, const std::vector<FilePosition>& places, Tail* before);
  Tail* adopt_recovered(std::uint32_t index, const Saved& saved, std::unique_ptr<FileSource> file,
                        Tail* before);
  void recover_cut(std::uint32_t index);
  struct InCopy {
    bool found = false;
    Tail* rest = nullptr;  // null: there is no more in it
    FoundFile file = {};
  };
  // `read_too`: also where there is no more in it, for what was copied after it.
  InCopy go_on_in_copy(const Tail& tail, const Content& content, bool read_too);
  void follow_unseen(std::uint32_t index, const std::set<std::string>& known);
  Tail* follow_since(std::uint32_t index, const std::string& path, std::int64_t seen_ns,
                     const FileSource* newest, Listings& listed);
  static bool has_older(const std::string& path, const FilePosition& position);
  bool may_have_lost_copies(const Tail& tail, std::int64_t seen_ns) const;
  void report_lost(std::uint32_t index, const Tail* next);
  void remember_gone(Tail* before, const std::vector<Content>& gone);
  // What is known of the file that had a name: others had it after that one.
  struct Former {
    std::string real;
    FoundFile file;                // its birth, and when it was written to last
    std::vector<Content> held;     // of one that is gone: what was read of it; a copy may hold it still
    bool copy = false;             // it is one itself, and those after it are
    std::int64_t packed_from = 0;  // compressed ones were modified then, or later
  };
  Tail* follow_between(std::uint32_t index, const std::string& path, Tail* before, const FileSource* newest,
                       std::optional<std::int64_t> made_until = std::nullopt);
  Tail* follow_after(std::uint32_t index, const std::string& path, const Former& former, Tail* before,
                     const FileSource* newest, std::vector<FoundFile> between, const std::vector<std::string>& names);
  struct CopyOf {
    bool all = false;            // all of it is read, or will be, where it was copied from
    std::optional<Content> cut;  // it begins with this, which its original does not hold any more
  };
  static CopyOf copied(const FileSource& file, const std::vector<const Tail*>& tails,
                       const std::vector<Content>& held, bool shorter_too);
  bool has_younger_copy(const Tail& tail, std::int64_t born_ns, std::int64_t modified_ns) const;
  bool is_superseded(const Tail& tail) const;
  Tail* log_of(const Tail& tail) const;
  bool is_left(Tail& tail) const;
  static bool is_read(const Tail& tail);
  static rules::Instant leaves_at(const Tail& tail);
  bool let_go(Tail& tail);
  Tail* adopt(std::uint32_t index, const std::string& path, std::unique_ptr<FileSource> file, Tail* before);
  void place(Tail& tail, FollowedSource& source);
  void watch_directories(std::uint32_t index, const std::vector<GlobResult::Directory>& directories);
  void unwatchable(const std::string& path, int error);
  void duplicate(std::uint32_t index, const std::string& path, const Tail& first);
  bool is_own(std::uint32_t index, const FoundFile& file);
  void trouble(std::uint32_t index, const std::string& path, const std::string& error, bool opening,
               bool succeeds = false);
  void note_detached(Tail& tail, const FileStat& stat);
  void open_inputs(std::uint32_t index);
  void open_input(std::uint32_t index, const rules::StreamSpec& input);
  rules::Result<std::unique_ptr<Source>> open_journal_of(std::uint32_t index, const rules::StreamSpec& input);
  void take_news(Tail& tail);
  void put_before(Tail& copy, Tail& tail);
  FilePosition position_of(Tail& tail) const;
  void leave(Tail& tail);
  void find_left();
  void unlink(Tail& tail, bool counted = false);
  void close(Tail& tail);
  void mark_dirty(Tail& tail);
  void at(rules::Instant instant) { next_timer_ = std::min(next_timer_, instant); }
  Tail* tail_of(const FileId& id) const;
  std::string key_of(const Tail& tail) const;
  rules::Labels label(std::uint32_t source) const { return {{"source", sources_[source].spec->name}}; }

  Ledger& ledger_;
  int stdin_fd_;
  std::size_t max_files_;  // and connections
  std::size_t max_connections_;
  ConnectionRoom connections_;
  Feedback* feedback_;
  bool past_ = false;
  FileWatch watch_;
  LineTimes times_;
  std::shared_ptr<const rules::Plan> plan_;
  std::vector<FollowedSource> sources_;
  std::vector<std::unique_ptr<Tail>> tails_;
  std::vector<Tail*> dirty_;
  std::vector<Tail*> changed_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Tail*> by_inode_;
  std::unordered_map<FileWatch::Id, Tail*> by_watch_;
  struct WatchedDirectory {
    std::string path;
    std::map<std::uint32_t, bool> sources;  // which use it, and whether every name in it counts
  };
  std::unordered_map<FileWatch::Id, WatchedDirectory> directories_;
  std::set<std::string> unwatched_;  // directories that have no watch: counted once
  bool told_unwatchable_ = false;

  std::vector<Saved> saved_;    // places of a former process, not claimed yet
  std::vector<Saved> retired_;  // of files let go that may come back, at most kMaxRetired
  std::vector<Saved> left_;     // of files that no source reads any more, at most kMaxLeft
  std::map<std::string, std::string> saved_places_;  // of streams, by key
  struct SavedSource {
    std::optional<rules::Timestamp> watched_from;
    std::optional<std::int64_t> seen_ns;  // everything that was born before was known
  };
  std::map<std::string, SavedSource> saved_sources_;  // by name
  std::vector<std::string> erased_;
  bool found_files_ = false;

  std::uint64_t scans_ = 0;
  rules::Timestamp now_ = rules::kLongAgo;
  rules::Instant instant_;
  rules::Instant next_timer_ = rules::Instant::min();
  rules::Instant next_poll_;
  rules::Instant next_safety_;
};

}  // namespace logbell::engine
