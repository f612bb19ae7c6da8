#include "engine/run/follower.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <tuple>

#include <fmt/format.h>

#include "engine/io/fault.h"
#include "engine/io/journal_source.h"
#include "engine/io/socket_source.h"
#include "engine/io/stream_source.h"
#include "engine/run/clock.h"
#include "engine/run/first_start.h"
#include "rules/json.h"

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::Instant;
using rules::Json;
using rules::Timestamp;

constexpr std::string_view kFilePrefix = "pos/file/";
constexpr std::string_view kSourcePrefix = "pos/source/";
constexpr std::string_view kStreamPrefix = "pos/stream/";
constexpr std::string_view kStdin = "-";
// A compressor may keep the time of the last write in whole seconds.
constexpr std::int64_t kModifiedPrecision = 1'000'000'000;

std::pair<std::uint64_t, std::uint64_t> inode_of(const FileId& id) {
  return {id.device, id.inode};
}

std::string file_key(std::string_view source, const FileId& id) {
  return fmt::format("{}{}/{:x}-{:x}", kFilePrefix, source, id.device, id.inode);
}

Content content_of(const FilePosition& position) {
  return {position.head, position.before, position.offset, position.line};
}

// Orders files by their births. Several may be born within one tick of the kernel's clock: then the one that
// was written to first was left first, and inode numbers rise where they are not used again.
std::tuple<std::int64_t, std::int64_t, std::uint64_t> age_of(const FoundFile& file) {
  return {file.stat.id.born_ns, file.stat.modified_ns, file.stat.id.inode};
}

bool comes_after(const Tail& tail, const Tail& other) {
  const Tail* before = tail.predecessor;
  while (before != nullptr && before != &other)
    before = before->predecessor;
  return before == &other;
}

// Of two that have lost one name. Where their order is known, times say nothing: they may be the same.
bool had_it_later(const Tail& tail, const Tail& other) {
  if (comes_after(tail, other)) return true;
  if (comes_after(other, tail)) return false;
  const auto age = [](const Tail& t) { return std::pair(t.unlinked_at, t.file->id().born_ns); };
  return age(tail) >= age(other);
}

constexpr std::int64_t in_ns(Duration duration) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
}

// What a file is compressed with that is not read; "": nothing that we know.
std::string_view unread_compression(const FileSource& file) {
  if (file.is_packed()) return {};
  std::array<char, kOtherCompressionBytes> first{};
  const rules::Result<std::size_t> got = file.read_at(0, first.data(), first.size());
  return other_compression({first.data(), got.value_or(0)});
}

std::string stream_key(std::string_view source, std::string_view stream) {
  return fmt::format("{}{}/{}", kStreamPrefix, source, stream);
}

bool reads_stdin(const rules::SourceSpec& spec) {
  return spec.is_stdin || std::find(spec.files.begin(), spec.files.end(), kStdin) != spec.files.end();
}

// Whether what was written before we listened is gone for good.
bool forgets(const rules::SourceSpec& spec) {
  return reads_stdin(spec) ||
         std::any_of(spec.streams.begin(), spec.streams.end(), [](const rules::StreamSpec& input) {
           return input.kind != rules::StreamSpec::Kind::kJournal;
         });
}

template <class T>
rules::Result<std::unique_ptr<Source>> as_source(rules::Result<std::unique_ptr<T>> source) {
  if (!source) return rules::fail(source.error());
  return std::unique_ptr<Source>(std::move(*source));
}

// Whether it is reached by a name in a directory.
bool has_name(const rules::StreamSpec& input) {
  using Kind = rules::StreamSpec::Kind;
  return input.kind == Kind::kUnixDatagram || input.kind == Kind::kUnixStream || input.kind == Kind::kFifo;
}

constexpr std::string_view kTooMany = "files are open already";
constexpr std::string_view kNotAFile = "not_a_file";

// A closed set, for a label.
std::string reason_of(std::string_view error) {
  for (const auto& [number, name] :
       {std::pair{EACCES, "EACCES"}, std::pair{EPERM, "EPERM"}, std::pair{EMFILE, "EMFILE"},
        std::pair{ENFILE, "ENFILE"}, std::pair{ELOOP, "ELOOP"}, std::pair{EIO, "EIO"},
        std::pair{EADDRINUSE, "EADDRINUSE"}}) {
    if (error.find(rules::errno_text(number)) != std::string_view::npos) return name;
  }
  if (error.find(kTooMany) != std::string_view::npos) return "too_many_files";
  return error.find("it is ") != std::string_view::npos ? std::string(kNotAFile) : "other";
}

// The compressed ones of paths that one log may have had, in a directory with these names; each once.
std::vector<FoundFile> packed_of(const std::set<std::string>& paths, const std::vector<std::string>& names) {
  std::vector<FoundFile> found;
  for (const std::string& path : paths) {
    for (FoundFile& file : packed_siblings(path, names)) {
      if (std::none_of(found.begin(), found.end(), [&](const FoundFile& known) { return known.path == file.path; }))
        found.push_back(std::move(file));
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const FoundFile& a, const FoundFile& b) { return a.stat.modified_ns < b.stat.modified_ns; });
  return found;
}

// Of several files with the same in them, one stays: that which holds the most, the oldest of equals.
void drop_copies(std::vector<std::unique_ptr<FileSource>>& files, const FileSource* newest) {
  std::vector<bool> dropped(files.size(), false);
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (files[i]->is_small()) continue;  // its writer may go on
    if (files[i]->says_one_line()) continue;
    dropped[i] = newest != nullptr && files[i]->is_copy_of(*newest);
    for (std::size_t j = 0; j < files.size() && !dropped[i]; ++j)
      dropped[i] = i != j && !dropped[j] && files[i]->is_copy_of(*files[j]) &&
                   !(i < j && files[j]->is_copy_of(*files[i]));
  }
  std::size_t at = 0;
  std::erase_if(files, [&](const auto&) { return dropped[at++]; });
}

}  // namespace

void Ledger::add(const std::string& name, const rules::Labels& labels, double by) {
  counters_[{name, labels}] += by;
}

void Ledger::note(ReaderNote note) {
  notes_.push_back(std::move(note));
}

std::vector<CounterDelta> Ledger::take_counters() {
  std::vector<CounterDelta> taken;
  taken.reserve(counters_.size());
  for (const auto& [key, by] : counters_)
    taken.push_back({key.first, key.second, by});
  counters_.clear();
  return taken;
}

std::vector<ReaderNote> Ledger::take_notes() {
  return std::exchange(notes_, {});
}

Follower::Follower(Ledger& ledger, int stdin_fd, bool use_inotify, Feedback* feedback, std::size_t max_files,
                   std::size_t max_connections)
    : ledger_(ledger),
      stdin_fd_(stdin_fd),
      max_files_(max_files),
      max_connections_(max_connections),
      feedback_(feedback),
      watch_(use_inotify) {
  if (use_inotify && watch_.fd() < 0) unwatchable("", errno);
}

Follower::~Follower() = default;

void Follower::restore(const std::vector<StoredEntry>& entries) {
  for (const StoredEntry& entry : entries) {
    if (!entry.value) continue;
    const std::string_view key = entry.key;
    if (key.starts_with(kFilePrefix)) {
      const std::string_view rest = key.substr(kFilePrefix.size());
      rules::Result<FilePosition> position = decode_position(*entry.value);
      if (!position) {
        // The file is found again and read from its beginning: late, but nothing is missed.
        ledger_.note({ReaderNote::Level::kError, std::string(rest.substr(0, rest.rfind('/'))), "",
                      position.error().message});
        erased_.push_back(entry.key);
        continue;
      }
      saved_.push_back({entry.key, std::string(rest.substr(0, rest.rfind('/'))), std::move(*position)});
    } else if (key.starts_with(kStreamPrefix)) {
      saved_places_[entry.key] = *entry.value;
    } else if (key.starts_with(kSourcePrefix)) {
      const rules::Result<Json> json = Json::parse(*entry.value);
      std::optional<Timestamp> from;
      std::optional<std::int64_t> seen_ns;
      if (json && (*json)["watched_from"].is_integer())
        from = rules::from_stored_ms((*json)["watched_from"].integer());
      if (json && (*json)["seen_ns"].is_integer()) seen_ns = (*json)["seen_ns"].integer();
      saved_sources_[std::string(key.substr(kSourcePrefix.size()))] = {from, seen_ns};
    }
  }
}

void Follower::replace_plan(std::shared_ptr<const rules::Plan> plan) {
  std::map<std::string, std::uint32_t> index;
  for (std::uint32_t i = 0; i < plan->sources.size(); ++i)
    index[plan->sources[i].name] = i;

  std::vector<FollowedSource> next(plan->sources.size());
  for (FollowedSource& old : sources_) {
    const auto found = index.find(old.spec->name);
    if (found == index.end()) {
      erased_.push_back(std::string(kSourcePrefix) + old.spec->name);
      continue;
    }
    const rules::SourceSpec& spec = plan->sources[found->second];
    // Files that a new pattern finds were there before: as at a first start.
    old.placing = old.placing || old.spec->files != spec.files;
    if (old.looked_ns != 0) old.seen_ns = old.looked_ns;
    // Not yet, straight after a start: then places of a former process are still to be found.
    old.scanned = old.scanned && !old.placing;
    next[found->second] = std::move(old);
  }
  for (const std::unique_ptr<Tail>& tail : tails_) {
    // Another reload may have taken its source away before anybody looked.
    const bool was_orphan = tail->orphan;
    const std::string name = was_orphan ? tail->orphan_of : sources_[tail->source].spec->name;
    const auto found = index.find(name);
    const rules::SourceSpec* spec = found == index.end() ? nullptr : &plan->sources[found->second];
    const bool still =
        spec != nullptr &&
        (tail->file == nullptr
             ? (tail->input ? std::find(spec->streams.begin(), spec->streams.end(), *tail->input) !=
                                  spec->streams.end()
                            : reads_stdin(*spec))
             : !tail->linked ||
                   std::any_of(spec->files.begin(), spec->files.end(),
                               [&](const std::string& pattern) { return could_match(pattern, tail->path); }));
    tail->orphan = !still;
    if (!still) tail->orphan_of = name;
    if (!still && !was_orphan && (tail->file != nullptr || tail->stream->place())) {
      erased_.push_back(key_of(*tail));
      tail->changed = false;
    }
    if (spec != nullptr) tail->source = found->second;
    if (still && was_orphan) mark_changed(*tail);
  }
  std::erase_if(changed_, [](const Tail* tail) { return !tail->changed; });

  plan_ = std::move(plan);
  sources_ = std::move(next);
  bool has_stdin = false;
  for (std::uint32_t i = 0; i < sources_.size(); ++i) {
    FollowedSource& source = sources_[i];
    const bool is_new = source.spec == nullptr;
    source.spec = &plan_->sources[i];
    source.window = longest_window(*plan_, i);
    source.scan_due = true;
    source.open = 0;
    source.polled = 0;
    if (is_new) {
      const auto saved = saved_sources_.find(source.spec->name);
      if (saved != saved_sources_.end()) {
        source.placing = false;
        source.watched_from = saved->second.watched_from;
        source.seen_ns = saved->second.seen_ns;
        source.changed = false;
        saved_sources_.erase(saved);
      }
    }
    if (!reads_stdin(*source.spec)) continue;
    const bool followed = std::any_of(tails_.begin(), tails_.end(), [&](const std::unique_ptr<Tail>& tail) {
      return tail->file == nullptr && !tail->input && !tail->orphan && tail->source == i;
    });
    if (!followed && !has_stdin) {
      auto tail = std::make_unique<Tail>();
      tail->source = i;
      tail->path = kStdin;
      tail->stream = std::make_unique<StreamSource>(stdin_fd_);
      tails_.push_back(std::move(tail));
    } else if (!followed) {
      trouble(i, std::string(kStdin), "standard input is read by another source already", true);
    }
    has_stdin = true;
  }
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (tail->orphan) continue;
    if (tail->decoder != nullptr) tail->decoder->set_source(*sources_[tail->source].spec);
    ++sources_[tail->source].open;
    if (tail->file != nullptr && !tail->watch) ++sources_[tail->source].polled;
  }
  for (auto& [id, directory] : directories_)
    directory.sources.clear();
  find_left();
}

// Nobody reads it any more. A slip in the configuration is mended within minutes, and what was written meanwhile is read
// then, once.
void Follower::leave(Tail& tail) {
  if (tail.file == nullptr || tail.copy) return;
  if (left_.size() >= kMaxLeft) {
    constexpr std::size_t kAtOnce = kMaxLeft / 4;  // all others move up
    left_.erase(left_.begin(), left_.begin() + kAtOnce);
    ledger_.add("logbell_source_positions_forgotten_total", {{"source", tail.orphan_of}}, kAtOnce);
  }
  left_.push_back({file_key(tail.orphan_of, tail.file->id()), tail.orphan_of, position_of(tail), tail.path});
}

// What a reload took out of a source and this one brings back is found as what a former process left.
void Follower::find_left() {
  std::erase_if(left_, [&](Saved& left) {
    const auto source = std::find_if(sources_.begin(), sources_.end(), [&](const FollowedSource& one) {
      return one.spec->name == left.source && !one.scanned &&
             std::any_of(one.spec->files.begin(), one.spec->files.end(),
                         [&](const std::string& pattern) { return could_match(pattern, left.found_by); });
    });
    if (source == sources_.end()) return false;
    saved_.push_back(std::move(left));
    return true;
  });
}

Tail* Follower::tail_of(const FileId& id) const {
  const auto found = by_inode_.find(inode_of(id));
  return found == by_inode_.end() ? nullptr : found->second;
}

std::string Follower::key_of(const Tail& tail) const {
  if (tail.file == nullptr) return stream_key(sources_[tail.source].spec->name, tail.path);
  return file_key(sources_[tail.source].spec->name, tail.file->id());
}

void Follower::mark_dirty(Tail& tail) {
  if (tail.dirty || tail.ended) return;
  tail.dirty = true;
  tail.dirty_since = instant_;
  dirty_.push_back(&tail);
}

void Follower::mark_changed(Tail& tail) {
  if (tail.changed || tail.orphan || (tail.file == nullptr && !tail.stream->place())) return;
  tail.changed = true;
  changed_.push_back(&tail);
}

// Whether nothing is in it that was not read, also if it may have more and was not looked at yet.
bool Follower::is_read(const Tail& tail) {
  const rules::Result<std::uint64_t> size = tail.file->size_now();
  return !tail.file->is_packed() && size && *size == tail.file->offset();
}

// The log that it was, or is a copy of, as its name says; null: it is one by itself.
Tail* Follower::log_of(const Tail& tail) const {
  if (unrotated(tail.real) == tail.real) return nullptr;
  const auto log = std::find_if(tails_.begin(), tails_.end(), [&](const std::unique_ptr<Tail>& other) {
    return other.get() != &tail && other->source == tail.source && other->file != nullptr && other->linked && !other->orphan &&
           directory_of(other->real) == directory_of(tail.real) && has_rotated_name(name_of(tail.real), name_of(other->real));
  });
  return log == tails_.end() ? nullptr : log->get();
}

// Whether its writer has turned to another file, or never was. Once he has, it says nothing that the other is rotated as well and
// the name is nobody's for a moment.
bool Follower::is_left(Tail& tail) const {
  if (tail.copy) return true;
  if (!tail.linked) {
    tail.left = tail.left || tail.deleted || is_superseded(tail);
    return tail.left;
  }
  if (unrotated(tail.real) == tail.real) return false;
  const Tail* const log = log_of(tail);
  tail.left = tail.left || (log != nullptr && log->stream->known_size() > 0);
  return tail.left;
}

FilePosition Follower::position_of(Tail& tail) const {
  FilePosition position = tail.file->position();
  for (std::size_t i = 0; i < kOutputStreams; ++i) {
    if (tail.lent.streams[i].lent) position.open.streams[i] = tail.lent.streams[i];
  }
  position.path = tail.real;
  position.unlinked = !tail.linked;
  position.rotated = is_left(tail) && (!tail.dirty || is_read(tail));
  position.copy = tail.copy;
  position.watermark = tail.watermark;
  return position;
}

std::vector<StoredEntry> Follower::take_entries() {
  found_files_ = false;
  std::vector<StoredEntry> entries;
  for (std::string& key : erased_)
    entries.push_back({std::move(key), std::nullopt});
  erased_.clear();
  for (Tail* tail : changed_) {
    FollowedSource& source = sources_[tail->source];
    source.changed = source.changed || source.looked_ns != 0;
    if (tail->file == nullptr) {
      entries.push_back({key_of(*tail), tail->stream->place()});
      tail->changed = false;
      continue;
    }
    entries.push_back({key_of(*tail), encode(position_of(*tail))});
    tail->changed = false;
  }
  changed_.clear();
  for (FollowedSource& source : sources_) {
    if (!source.changed || !source.scanned) continue;
    source.changed = false;
    Json json;
    if (source.watched_from) json.set("watched_from", rules::to_unix_ms(*source.watched_from));
    if (source.looked_ns != 0) json.set("seen_ns", source.looked_ns);
    entries.push_back({std::string(kSourcePrefix) + source.spec->name, json.is_null() ? "{}" : json.dump()});
  }
  return entries;
}

void Follower::gap(std::uint32_t index, std::string_view cause, Timestamp from) {
  FollowedSource& source = sources_[index];
  ledger_.add("logbell_source_gaps_total", {{"source", source.spec->name}, {"cause", std::string(cause)}}, 1);
  if (!source.watched_from || from > *source.watched_from) {
    source.watched_from = from;
    source.changed = true;
  }
}

// --- looking around

void Follower::look(Timestamp now, Instant instant, bool everything) {
  now_ = now;
  instant_ = instant;
  const std::int64_t looked_ns = birth_clock_ns();  // what is born from here on may be overlooked
  take_events();
  if (instant >= next_timer_) run_timers();
  const bool safety = instant >= next_safety_;
  const bool polling = everything || safety || instant >= next_poll_;
  if (polling) {
    poll(safety);
    next_poll_ = instant + kPollInterval;
    if (safety) next_safety_ = instant + kSafetyInterval;
  }
  for (std::uint32_t i = 0; i < sources_.size(); ++i) {
    FollowedSource& source = sources_[i];
    if (safety || (polling && source.unwatched)) source.scan_due = true;
    if (source.scan_due) scan(i);
    if (!polling && (source.unwatched || source.polled > 0)) continue;
    source.known_at = now;
    source.looked_ns = looked_ns;
  }
  connections_.most = std::min(max_connections_, max_files_ - std::min(max_files_, tails_.size()));
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (tail->file != nullptr || tail->ended || tail->orphan) continue;
    const StreamLook look = tail->stream->look(instant);
    if (look.ready) mark_dirty(*tail);
    if (look.again > instant) at(look.again);
  }
  // Whatever nobody claimed by now is followed no more.
  for (std::size_t i = tails_.size(); i-- > 0;) {
    if (!tails_[i]->orphan) continue;
    leave(*tails_[i]);
    close(*tails_[i]);
  }
  for (const Saved& saved : saved_)
    erased_.push_back(saved.key);
  saved_.clear();
  // A journal that cannot be opened yet keeps its place.
  std::erase_if(saved_places_, [this](const auto& saved) {
    for (const FollowedSource& source : sources_) {
      for (const rules::StreamSpec& input : source.spec->streams) {
        if (saved.first == stream_key(source.spec->name, input.text)) return false;
      }
    }
    erased_.push_back(saved.first);
    return true;
  });
  for (const auto& [name, saved] : saved_sources_)
    erased_.push_back(std::string(kSourcePrefix) + name);
  saved_sources_.clear();
  std::erase_if(directories_, [this](const auto& entry) {
    if (!entry.second.sources.empty()) return false;
    watch_.forget(entry.first);
    return true;
  });
  const bool any_polled = std::any_of(sources_.begin(), sources_.end(), [](const FollowedSource& source) {
    return source.unwatched || source.polled > 0;
  });
  at(any_polled ? next_poll_ : next_safety_);
}

void Follower::take_events() {
  const bool complete = watch_.take([this](const FileWatch::Event& event) {
    if (const auto found = by_watch_.find(event.watch); found != by_watch_.end()) {
      Tail& tail = *found->second;
      if (event.gone) {
        tail.watch.reset();
        if (!tail.orphan) ++sources_[tail.source].polled;
        by_watch_.erase(found);
      } else if (event.written || event.moved) {
        mark_dirty(tail);
        tail.renamed = tail.renamed || event.renamed;
        if (event.moved && !tail.orphan) sources_[tail.source].scan_due = true;
      }
      return;
    }
    const auto found = directories_.find(event.watch);
    if (found == directories_.end()) return;
    const std::string name(event.name);
    for (const auto& [index, any_name] : found->second.sources) {
      FollowedSource& source = sources_[index];
      const bool concerns =
          !event.in_directory || any_name ||
          std::any_of(source.spec->files.begin(), source.spec->files.end(),
                      [&](const std::string& pattern) { return has_component(pattern, name); }) ||
          std::any_of(source.spec->streams.begin(), source.spec->streams.end(),
                      [&](const rules::StreamSpec& input) {
                        return has_name(input) && name_of(input.address) == name;
                      });
      if (!concerns) continue;
      source.scan_due = true;
      for (auto& [path, trouble] : source.troubles) {
        if (name_of(path) == name) trouble.retry_at = instant_;  // perhaps its rights have changed
      }
    }
    if (event.gone) directories_.erase(found);
  });
  if (complete) return;
  ledger_.add("logbell_inotify_overflows_total", {}, 1);
  next_safety_ = instant_;
}

void Follower::poll(bool all) {
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (tail->file == nullptr || tail->dirty || (!all && tail->watch)) continue;
    const rules::Result<FileStat> stat = tail->file->stat();
    if (!stat || tail->file->looks_changed(*stat)) mark_dirty(*tail);
  }
}

// Something is in what has its name now. What lies between the two proves nothing: it may be a copy of what
// was cut away before it was read, and who writes here still does.
bool Follower::is_superseded(const Tail& tail) const {
  return std::any_of(tails_.begin(), tails_.end(), [&](const std::unique_ptr<Tail>& other) {
    return other->linked && (other->stream->known_size() > 0 || other->stream->offset() > 0) && comes_after(*other, tail);
  });
}

// When a file without a name may be let go at the earliest.
Instant Follower::leaves_at(const Tail& tail) {
  const Instant quiet = std::max(tail.grown_at, tail.unlinked_at) + kRotateWait;
  return tail.deleted ? std::min(quiet, tail.unlinked_at + kDeletedMaxAge) : quiet;
}

// Whether a file without a name has been let go.
bool Follower::let_go(Tail& tail) {
  if (const rules::Result<FileStat> stat = tail.file->stat()) tail.deleted = stat->links == 0;
  const Instant quiet = std::max(tail.grown_at, tail.unlinked_at) + kRotateWait;
  if (instant_ < leaves_at(tail)) {
    at(leaves_at(tail));
    return false;
  }
  // Its writer may not have turned to the new file yet: a signal after the rotation tells it to, or nothing
  // ever does.
  const bool written = !tail.copy && !tail.file->is_packed();
  const Instant silent = std::max(tail.grown_at, tail.unlinked_at) + kRotatedMaxAge;
  if (written && !tail.deleted && instant_ < silent && !is_superseded(tail)) {
    at(instant_ + kRotateWait);
    return false;
  }
  const bool unfinished = tail.stream->pending() > 0 && !tail.stream->pending_is_evaluated();
  if (unfinished || (tail.decoder != nullptr && tail.decoder->due())) {
    tail.flush = unfinished;
    tail.flush_everything = true;
    mark_dirty(tail);
    at(instant_);
    return false;
  }
  // The next process may have to read the beginning of a record that goes on in its successor.
  const bool needed =
      !tail.lent.empty() &&
      std::any_of(tails_.begin(), tails_.end(), [&](const std::unique_ptr<Tail>& other) {
        return other->decoder != nullptr && other->decoder->due() && comes_after(*other, tail);
      });
  if (needed) {
    at(instant_ + kPartialTimeout);
    return false;
  }
  // Nobody shall read a copy again: what followed it knows what it held.
  for (const std::unique_ptr<Tail>& other : tails_) {
    if (tail.copy && other->file != nullptr && !other->copy && comes_after(*other, tail) &&
        other->file->remember_copy(*tail.file))
      mark_changed(*other);
  }
  if (instant_ < quiet) gap(tail.source, "deleted_while_written", now_);
  LOGBELL_FAULT("reader.rotation.before_let_go");
  if (!tail.deleted) {
    if (retired_.size() >= kMaxRetired) {
      retired_.erase(retired_.begin());
      ledger_.add("logbell_source_positions_forgotten_total", {{"source", sources_[tail.source].spec->name}},
                  1);
    }
    FilePosition position = tail.file->position();
    position.watermark = tail.watermark;
    position.copy = tail.copy;
    retired_.push_back({"", "", std::move(position)});
  }
  close(tail);
  return true;
}

void Follower::run_timers() {
  next_timer_ = Instant::max();
  for (std::size_t i = tails_.size(); i-- > 0;) {
    Tail& tail = *tails_[i];
    if (tail.ended || tail.orphan) continue;
    if (!tail.error.empty()) {
      at(std::max(tail.retry_at, instant_ + Duration(1)));
      continue;
    }
    if (tail.dirty) continue;
    if (tail.stream->pending() > 0 && !tail.stream->pending_is_evaluated()) {
      const Instant due = tail.grown_at + kPartialTimeout;
      if (instant_ >= due) {
        tail.flush = true;
        mark_dirty(tail);
        continue;
      }
      at(due);
    }
    if (const auto due = tail.decoder == nullptr ? std::nullopt : tail.decoder->due()) {
      if (instant_ >= *due) {
        tail.flush_records = true;
        mark_dirty(tail);
        continue;
      }
      at(*due);
    }
    if (!tail.linked) static_cast<void>(let_go(tail));
  }
  for (FollowedSource& source : sources_) {
    for (const auto& [path, trouble] : source.troubles) {
      if (instant_ >= trouble.retry_at) {
        source.scan_due = true;
      } else {
        at(trouble.retry_at);
      }
    }
  }
}

// --- finding files

void Follower::watch_directories(std::uint32_t index, const std::vector<GlobResult::Directory>& directories) {
  FollowedSource& source = sources_[index];
  for (const GlobResult::Directory& directory : directories) {
    // Asked for each time: the name may lead to another directory by now.
    const std::optional<FileWatch::Id> id = watch_.watch_directory(directory.path);
    if (!id) {
      source.unwatched = true;
      if (watch_.fd() >= 0 && unwatched_.insert(directory.path).second) unwatchable(directory.path, errno);
      continue;
    }
    unwatched_.erase(directory.path);
    WatchedDirectory& watched = directories_[*id];
    watched.path = directory.path;
    bool& any_name = watched.sources[index];
    any_name = any_name || directory.any_name;
  }
}

// `error`: ENOSPC where fs.inotify.max_user_watches are used up, EMFILE for max_user_instances; others, such
// as a directory that may not be read, are said elsewhere.
void Follower::unwatchable(const std::string& path, int error) {
  ledger_.add("logbell_inotify_watch_failures_total", {}, 1);
  if ((error != ENOSPC && error != EMFILE) || std::exchange(told_unwatchable_, true)) return;
  ledger_.note(
      {ReaderNote::Level::kWarn, "", path,
       "Cannot be watched, nor perhaps others: what is not watched is looked at every second. Are the "
       "system's inotify watches or instances used up?"});
}

void Follower::duplicate(std::uint32_t index, const std::string& path, const Tail& first) {
  FollowedSource& source = sources_[index];
  if (!source.duplicates.insert(path).second) return;
  ledger_.add("logbell_source_duplicate_inputs_total", label(index), 1);
  ledger_.note({ReaderNote::Level::kWarn, source.spec->name, path,
                fmt::format("Is the same file as {} of source {}, and read once.{}", first.path,
                            sources_[first.source].spec->name,
                            first.source == index ? "" : " What looks at this source sees none of its lines.")});
  // People hear of it (InputGap): the rules that look at this source are blind to the file.
  if (first.source != index) gap(index, "read_by_another_source", now_);
}

// What this process writes itself is nobody's log.
bool Follower::is_own(std::uint32_t index, const FoundFile& file) {
  if (feedback_ == nullptr) return false;
  const std::string what = feedback_->own(file.path, file.stat.id);
  if (what.empty()) return false;
  FollowedSource& source = sources_[index];
  if (!source.own.insert(file.path).second) return true;
  ledger_.add("logbell_source_own_files_total", label(index), 1);
  ledger_.note(
      {ReaderNote::Level::kWarn, source.spec->name, file.path, fmt::format("Is not read: {}.", what)});
  return true;
}

void Follower::trouble(std::uint32_t index, const std::string& path, const std::string& error, bool opening,
                       bool succeeds) {
  FollowedSource& source = sources_[index];
  const auto [entry, is_new] = source.troubles.try_emplace(path);
  FollowedSource::Trouble& trouble = entry->second;
  trouble.scan = scans_;
  trouble.succeeds = trouble.succeeds || succeeds;  // also once the one before is let go
  if (!is_new && instant_ < trouble.retry_at) return;
  if (is_new || trouble.error != error)
    ledger_.note({ReaderNote::Level::kError, source.spec->name, path, error});
  trouble.error = error;
  trouble.back_off = is_new ? kFirstBackOff : std::min(2 * trouble.back_off, kMaxBackOff);
  trouble.retry_at = instant_ + trouble.back_off;
  trouble.opening = opening;
  ledger_.add("logbell_source_open_errors_total",
              {{"source", source.spec->name}, {"reason", reason_of(error)}}, 1);
  at(trouble.retry_at);
}

bool FollowedSource::is_missed(const Trouble& trouble) {
  return trouble.succeeds || reason_of(trouble.error) != kNotAFile;
}

void Follower::describe_unreadable(const FollowedSource& source, SourceStatus& status) {
  std::size_t more = 0;
  const auto add = [&](const std::string& what) {
    if (status.unreadable.empty()) {
      status.unreadable = what;
    } else {
      ++more;
    }
  };
  for (const auto& [path, trouble] : source.troubles) {
    status.blind = status.blind || trouble.succeeds;
    if (FollowedSource::is_missed(trouble)) add(trouble.error);
  }
  for (const auto& [path, missing] : source.missing) {
    status.blind = status.blind || missing.succeeds;
    add(path + " " + missing.why);
  }
  if (more > 0) status.unreadable += fmt::format(", and {} more", more);
}

void Follower::scan(std::uint32_t index) {
  FollowedSource& source = sources_[index];
  source.scan_due = false;
  source.unwatched = watch_.fd() < 0 && !source.spec->files.empty();
  ++scans_;
  // Who had which name before: the file that has it now comes after him.
  std::map<std::string, Tail*> owners;
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (tail->source != index || tail->file == nullptr || tail->orphan || tail->copy) continue;
    Tail*& owner = owners[tail->path];
    if (owner == nullptr || tail->linked || (!owner->linked && had_it_later(*tail, *owner)))
      owner = tail.get();
  }
  std::vector<FoundFile> fresh;
  find(index, fresh);
  open_inputs(index);
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (tail->source == index && tail->file != nullptr && !tail->orphan && tail->linked &&
        tail->scan != scans_)
      unlink(*tail);
  }
  // In the order of their births, so that the times of one are known when the next begins.
  std::stable_sort(fresh.begin(), fresh.end(),
                   [](const FoundFile& a, const FoundFile& b) { return age_of(a) < age_of(b); });
  Listings listed;
  for (const FoundFile& file : fresh) {
    const auto owner = owners.find(file.path);
    follow_fresh(index, file, owner == owners.end() ? nullptr : owner->second, listed);
    if (owner != owners.end()) owners.erase(owner);
  }
  // Whose name leads nowhere at the moment: others may have had it meanwhile, and lost it too.
  for (const auto& [path, owner] : owners) {
    if (!owner->linked && owner->path == path) follow_between(index, path, owner, nullptr);
  }
  std::erase_if(source.troubles, [&](const auto& entry) {
    const bool over = entry.second.scan != scans_ && entry.first != kStdin;
    if (over)
      ledger_.note(
          {ReaderNote::Level::kInfo, source.spec->name, entry.first, "Can be read now, or is gone."});
    return over;
  });
  if (source.scanned) return;
  const std::set<std::string> known = recover_rotated(index);
  recover_cut(index);
  follow_unseen(index, known);
  source.scanned = true;
  source.placing = false;
  found_files_ = true;  // that they are followed at all
  // Nothing was there, so nothing is missing. What a stream said before we listened nobody knows.
  if (!source.watched_from || forgets(*source.spec)) {
    source.watched_from = now_;
    source.changed = true;
  }
}

void Follower::find(std::uint32_t index, std::vector<FoundFile>& fresh) {
  FollowedSource& source = sources_[index];
  const std::map<std::string, FollowedSource::Missing> before = std::exchange(source.missing, {});
  for (const std::string& pattern : source.spec->files) {
    if (pattern == kStdin) continue;
    const GlobResult found = find_files(pattern);
    watch_directories(index, found.directories);
    for (const GlobResult::Failure& failure : found.failures) {
      trouble(index, failure.path, failure.error, false);
      source.unwatched = true;
    }
    for (const FoundFile& file : found.files)
      meet(index, file, fresh);
    if (is_pattern(pattern)) continue;
    if (!found.files.empty()) source.met.insert(pattern);
    if (!found.files.empty() || !found.failures.empty()) continue;
    const bool met = source.met.count(pattern) != 0;
    // Whoever renamed it makes it anew, and goes on in the old one until then.
    const auto is_it = [&](const auto& tail) {
      return tail->source == index && tail->file != nullptr && !tail->orphan && tail->path == pattern;
    };
    if (met && std::any_of(tails_.begin(), tails_.end(), is_it)) continue;
    const rules::Result<FileStat> stat = stat_path(pattern);
    const std::string_view why = stat  ? "is no file: mounting what is not there makes a directory"
                                 : met ? "does not exist any more"
                                       : "does not exist";
    source.missing.insert_or_assign(pattern, FollowedSource::Missing{std::string(why)});
    if (before.count(pattern) == 0)
      ledger_.note({ReaderNote::Level::kWarn, source.spec->name, pattern,
                    met ? "It is gone, and is read again once it is there."
                        : "It is not there yet, and is read once it is."});
  }
}

void Follower::meet(std::uint32_t index, const FoundFile& file, std::vector<FoundFile>& fresh) {
  Tail* tail = tail_of(file.stat.id);
  if (!past_ && (tail == nullptr ? has_packed_name(file.path) : tail->file->is_packed())) {
    if (std::exchange(sources_[index].told_packed, true)) return;
    ledger_.note({ReaderNote::Level::kInfo, sources_[index].spec->name, file.path,
                  "Is compressed: not followed, only read where it holds what was missed."});
    return;
  }
  if (tail == nullptr) {
    if (is_own(index, file)) return;
    const auto same = std::find_if(fresh.begin(), fresh.end(), [&](const FoundFile& other) {
      return inode_of(other.stat.id) == inode_of(file.stat.id);
    });
    if (same == fresh.end()) {
      fresh.push_back(file);
    } else if (same->path != file.path) {
      Tail first;
      first.source = index;
      first.path = same->path;
      duplicate(index, file.path, first);
    }
    return;
  }
  if (tail->orphan) {
    tail->orphan = false;
    tail->source = index;
    if (tail->decoder != nullptr) tail->decoder->set_source(*sources_[index].spec);
    ++sources_[index].open;
    if (!tail->watch) ++sources_[index].polled;
    mark_changed(*tail);
  }
  if (tail->source != index || tail->scan == scans_) {
    if (tail->source != index || tail->path != file.path) duplicate(index, file.path, *tail);
    return;
  }
  tail->scan = scans_;
  if (!tail->linked) {
    tail->linked = true;
    tail->deleted = false;
  }
  if (tail->path != file.path) {
    tail->path = file.path;
    tail->real = real_path(file.path);
    mark_changed(*tail);
  }
  if (!past_) note_detached(*tail, file.stat);
}

// Where a file is mounted by itself, its name leads to it also when it is rotated away where it comes from, and what is made
// there in its place is never seen here.
void Follower::note_detached(Tail& tail, const FileStat& stat) {
  constexpr std::int64_t kLastWords = std::chrono::nanoseconds(kRotateWait).count();
  // Who goes on writing to it has not turned to another yet.
  const bool left = stat.links == 0 || (tail.renamed && stat.modified_ns <= birth_clock_ns() - kLastWords);
  const bool was = std::exchange(tail.detached, stat.mount_root && left);
  if (!tail.detached) return;
  const std::string why =
      "is mounted by itself and was rotated away where it comes from: its new file cannot be seen here, mount its directory instead";
  sources_[tail.source].missing.insert_or_assign(tail.path, FollowedSource::Missing{why, true});
  if (!was) ledger_.note({ReaderNote::Level::kError, sources_[tail.source].spec->name, tail.path, "It " + why + "."});
}

// Sockets, named pipes, the journal: each is opened once, and again when its name leads elsewhere.
void Follower::open_inputs(std::uint32_t index) {
  FollowedSource& source = sources_[index];
  for (const rules::StreamSpec& input : source.spec->streams) {
    if (has_name(input)) {
      // Without a watch the next scan sees it: that is no reason to doubt what was read.
      const bool unwatched = source.unwatched;
      watch_directories(index, {{.path = directory_of(input.address), .any_name = false}});
      source.unwatched = unwatched;
    }
    open_input(index, input);
  }
}

// Goes on where a former process stood; else with what fills the windows, as far as it is there.
rules::Result<std::unique_ptr<Source>> Follower::open_journal_of(std::uint32_t index,
                                                                 const rules::StreamSpec& input) {
  FollowedSource& source = sources_[index];
  rules::Result<std::unique_ptr<Journal>> journal = open_journal(input);
  if (!journal) return rules::fail(journal.error());
  std::optional<std::string> place;
  const std::string key = stream_key(source.spec->name, input.text);
  if (const auto saved = saved_places_.find(key); saved != saved_places_.end()) {
    place = saved->second;
    saved_places_.erase(saved);
  }
  const Timestamp begin = source.spec->read_from == rules::ReadFrom::kBeginning ? rules::kLongAgo
                          : source.spec->read_from == rules::ReadFrom::kEnd     ? now_
                                                                                : now_ - source.window;
  auto opened = std::make_unique<JournalSource>(std::move(*journal), place, begin);
  if (!place) {
    // What was vacuumed nobody knows.
    const Timestamp from = std::max(begin, opened->oldest().value_or(begin));
    if (!source.watched_from || from > *source.watched_from) {
      source.watched_from = from;
      source.changed = true;
    }
  }
  return opened;
}

void Follower::open_input(std::uint32_t index, const rules::StreamSpec& input) {
  FollowedSource& source = sources_[index];
  bool again = false;
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (!tail->input || *tail->input != input || (tail->source != index && !tail->orphan)) continue;
    if (tail->orphan) {
      tail->orphan = false;
      tail->source = index;
      ++source.open;
      mark_changed(*tail);
    }
    if (tail->stream->is_reachable()) return;
    // What came before is read first.
    if (tail->error.empty() && (tail->dirty || tail->stream->look(instant_).ready)) {
      source.scan_due = true;
      mark_dirty(*tail);
      at(instant_);
      return;
    }
    ledger_.note({ReaderNote::Level::kWarn, source.spec->name, tail->path,
                  "Its name is gone, or leads elsewhere: nobody reaches it any more. It is opened anew."});
    gap(index, "not_listening", now_);
    close(*tail);
    again = true;
    break;
  }
  const auto known = source.troubles.find(input.text);
  if (known != source.troubles.end() && !again && instant_ < known->second.retry_at) {
    known->second.scan = scans_;
    return;
  }
  using Kind = rules::StreamSpec::Kind;
  rules::Result<std::unique_ptr<Source>> opened = input.kind == Kind::kJournal ? open_journal_of(index, input)
                                                  : input.kind == Kind::kFifo
                                                      ? as_source(FifoSource::open(input.address))
                                                      : open_socket(input, &connections_);
  if (!opened) {
    trouble(index, input.text, opened.error().message, true);
    return;
  }
  // Nobody knows what was said before somebody listened.
  if (input.kind != Kind::kJournal && source.scanned &&
      (!source.watched_from || *source.watched_from < now_)) {
    source.watched_from = now_;
    source.changed = true;
  }
  auto tail = std::make_unique<Tail>();
  tail->source = index;
  tail->stream = std::move(*opened);
  tail->input = input;
  tail->path = tail->stream->where().empty() ? input.text : tail->stream->where();
  tail->grown_at = instant_;
  tail->live = input.kind != Kind::kFifo && input.kind != Kind::kJournal;  // they may hold what is old
  ++source.open;
  ledger_.note({ReaderNote::Level::kInfo, source.spec->name, tail->path, "Is open."});
  tails_.push_back(std::move(tail));
  mark_changed(*tails_.back());
}

// No pattern leads to it any more.
void Follower::unlink(Tail& tail, bool counted) {
  tail.linked = false;
  tail.unlinked_at = instant_;
  tail.grown_at = std::max(tail.grown_at, instant_);
  if (const rules::Result<FileStat> stat = tail.file->stat()) tail.deleted = stat->links == 0;
  if (!counted) {
    ledger_.add("logbell_source_rotations_total",
                {{"source", sources_[tail.source].spec->name}, {"kind", tail.deleted ? "delete" : "rename"}},
                1);
  }
  mark_dirty(tail);
  mark_changed(tail);
  at(instant_ + kRotateWait);
}

void Follower::follow_fresh(std::uint32_t index, const FoundFile& file, Tail* before, Listings& listed) {
  FollowedSource& source = sources_[index];
  const auto known = source.troubles.find(file.path);
  if (known != source.troubles.end() && known->second.opening && instant_ < known->second.retry_at) {
    known->second.scan = scans_;
    return;
  }
  if (tails_.size() + connections_.open >= max_files_) {
    const std::string_view fix =
        max_files_ < kMaxFiles ? "; more need a higher limit (LimitNOFILE=, ulimit -Hn)" : "";
    trouble(index, file.path, fmt::format("open {}: {} {}{}", file.path, max_files_, kTooMany, fix), true,
            before != nullptr);
    return;
  }
  rules::Result<std::unique_ptr<FileSource>> opened = FileSource::open(file.path);
  if (!opened) {
    // Gone since it was found: the next scan knows.
    if (opened.error().code != rules::ErrorCode::kNotFound)
      trouble(index, file.path, opened.error().message, true, before != nullptr);
    return;
  }
  if (past_) {
    if (const std::string_view packed_with = unread_compression(**opened); !packed_with.empty()) {
      trouble(index, file.path,
              fmt::format("it is compressed with {}, which is not read here; unpack it: {} {} | logbell "
                          "backtest --from -",
                          packed_with, unpacker_of(packed_with), file.path),
              true);
      return;
    }
    (*opened)->lift_limits();
  }
  Tail* last = nullptr;
  if (before != nullptr) {
    last = follow_between(index, file.path, before, opened->get());
  } else if (source.scanned) {
    // Its name is new, or was gone for long; others may have had it since the last look.
    last = follow_since(index, file.path, source.looked_ns, opened->get(), listed);
  }
  Tail* tail = adopt(index, file.path, std::move(*opened), last);
  if (tail == nullptr) return;
  tail->scan = scans_;
  if (!past_ && file.stat.mount_root)
    ledger_.note({ReaderNote::Level::kWarn, source.spec->name, file.path,
                  "Is mounted by itself: once it is rotated by another name, its new file cannot be seen here. Mount its directory "
                  "instead, or rotate it with copytruncate."});
  // A former process may have found it before anything was copied into it, or have passed the beginning of the copy.
  tail->came_unseen = !source.scanned && source.seen_ns && tail->file->id().born_ns > *source.seen_ns;
  tail->may_be_copy = !tail->file->is_packed() && (tail->file->offset() == 0 || (tail->resumed && tail->copy));
}

// What `file` is a copy of: of what one of `tails` holds, or held before it was cut; or of what was `held` by
// one that is gone. `shorter_too`: it may have been made before all of that was read.
Follower::CopyOf Follower::copied(const FileSource& file, const std::vector<const Tail*>& tails,
                                  const std::vector<Content>& held, bool shorter_too) {
  if (std::any_of(tails.begin(), tails.end(), [&](const Tail* tail) { return file.is_copy_of(*tail->file); }))
    return {.all = true, .cut = std::nullopt};
  std::vector<Content> contents = held;
  for (const Tail* tail : tails) {
    const std::vector<Content>& cut = tail->file->cut();
    contents.insert(contents.end(), cut.begin(), cut.end());
    const Content read = tail->file->content();
    if (!tail->file->begins_with(read)) contents.push_back(read);  // cut away as well, and not noticed yet
  }
  // As far as any of them was read.
  std::sort(contents.begin(), contents.end(),
            [](const Content& x, const Content& y) { return x.offset > y.offset; });
  for (const Content& content : contents) {
    if (content.offset > 0 && file.begins_with(content, shorter_too)) return {.all = false, .cut = content};
  }
  return {};
}

// Files that had the name between `before` and the newest one, oldest first; they are read from their
// beginnings and let go. Returns the last of them.
Tail* Follower::follow_between(std::uint32_t index, const std::string& path, Tail* before,
                               const FileSource* newest, std::optional<std::int64_t> made_until) {
  const rules::Result<FileStat> is = before->file->stat();
  const rules::Result<FileStat> was = before->was ? rules::Result<FileStat>(*before->was) : is;
  if (!was) return before;
  std::vector<FoundFile> between = rotated_siblings(before->real);
  if (made_until) std::erase_if(between, [&](const FoundFile& file) { return file.stat.id.born_ns > *made_until; });
  return follow_after(index, path,
                      {.real = before->real,
                       .file = {before->real, *was},
                       .held = {},
                       .copy = before->copy,
                       .packed_from = is ? is->modified_ns : 0},
                      before, newest, std::move(between), names_in(directory_of(before->real)));
}

// The same, of a former that may be gone: then `before` is null.
Tail* Follower::follow_after(std::uint32_t index, const std::string& path, const Former& former, Tail* before,
                             const FileSource* newest, std::vector<FoundFile> between,
                             const std::vector<std::string>& names) {
  if (former.file.stat.id.born_ns == 0) return before;
  // Born while or after the former was last written to; a copy of a log is older than what the log says next.
  // Who had the name while a former process looked was known to it: what was there is another log.
  const FollowedSource& source = sources_[index];
  const std::int64_t seen = source.scanned ? 0 : source.seen_ns.value_or(0);
  const std::int64_t earliest = std::max(former.file.stat.modified_ns - in_ns(kRotateWait), seen);
  std::erase_if(between, [&](const FoundFile& file) {
    return tail_of(file.stat.id) != nullptr || file.stat.id.born_ns < earliest ||
           age_of(file) <= age_of(former.file) ||
           (newest != nullptr &&
            (file.stat.id == newest->id() || file.stat.id.born_ns > newest->id().born_ns)) ||
           std::any_of(sources_[index].spec->files.begin(), sources_[index].spec->files.end(),
                       [&](const std::string& pattern) { return could_match(pattern, file.path); });
  });
  std::sort(between.begin(), between.end(),
            [](const FoundFile& a, const FoundFile& b) { return age_of(a) < age_of(b); });
  // "app.log.1" is a rotated app.log where a pattern finds both, and else a log by itself.
  const std::vector<std::string>& patterns = sources_[index].spec->files;
  const std::string original = unrotated(former.real);
  const bool rotated = std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return could_match(pattern, original);
  });
  const std::string& log = rotated ? original : former.real;
  // There may be thousands of others.
  const std::string_view stem = std::string_view(original).substr(0, original.rfind('.'));
  std::vector<const Tail*> of_log;
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (tail->source == index && tail->file != nullptr && tail->real.starts_with(stem) && unrotated(tail->real) == original)
      of_log.push_back(tail.get());
  }
  // What was born with the compressing; the latest are compressed last, if at all.
  // Who knew a later one knew them as well, and has read and forgotten them.
  std::int64_t known_to = former.packed_from;
  for (const Tail* tail : of_log) {
    // What was copied and cut goes on, and knows nothing of the copies.
    if (!tail->resumed || (former.copy && !tail->copy)) continue;
    if (const rules::Result<FileStat> stat = tail->file->stat()) known_to = std::max(known_to, stat->modified_ns);
  }
  std::vector<FoundFile> older = packed_of({log, former.real}, names);
  std::erase_if(older, [&](const FoundFile& file) {
    return tail_of(file.stat.id) != nullptr || file.stat.modified_ns < known_to;
  });
  between.insert(between.begin(), older.begin(), older.end());
  // What was born in the long time in which nobody looked may be another log's.
  const bool unseen = !sources_[index].scanned || before == nullptr;
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_content;  // unless that shows whose it is
  std::vector<std::unique_ptr<FileSource>> files;
  for (const FoundFile& file : between) {
    rules::Result<std::unique_ptr<FileSource>> opened = FileSource::open(file.path);
    if (!opened) continue;
    if (has_packed_name(file.path) && !(*opened)->is_packed()) {
      gap(index, "compression_unknown", now_);
      ledger_.note({ReaderNote::Level::kError, sources_[index].spec->name, file.path,
                    "Is compressed with neither gzip nor zstd: what it holds is missed."});
      continue;
    }
    if (unseen && !has_rotated_name(name_of(file.path), name_of(log)))
      by_content.insert(inode_of((*opened)->id()));
    files.push_back(std::move(*opened));
  }
  drop_copies(files, newest);
  Tail* last = before;
  for (std::unique_ptr<FileSource>& file : files) {
    const CopyOf copy = copied(*file, of_log, former.held, sources_[index].scanned);
    bool known_already = copy.all;
    if (!known_already && !copy.cut && by_content.count(inode_of(file->id())) > 0) continue;
    // All of it was read before it was cut.
    if (copy.cut) {
      const rules::Result<std::uint64_t> size = file->size_now();
      known_already = size && *size <= copy.cut->offset;
    }
    const bool small = file->is_small();
    known_already = known_already || (small && newest != nullptr && file->is_copy_of(*newest));
    // Of two that say nothing but one line, over and over, nobody can tell.
    if ((known_already || copy.cut) && file->says_one_line()) gap(index, "rotated_away_while_down", now_);
    // Nobody writes to a copy. But what another began with as well may be the beginning of a log, and go on.
    if (known_already && !small) continue;
    Tail* tail = adopt(index, path, std::move(file), last);
    if (tail == nullptr) continue;
    // The rest of what was cut away before it was read is in the copy; unless that was read from it already.
    if (known_already && !tail->resumed) {
      static_cast<void>(tail->file->start_behind_lines());
    } else if (copy.cut && !tail->resumed) {
      static_cast<void>(tail->file->go_on_from(*copy.cut));
    }
    tail->copy = (copy.cut && !known_already) || former.copy;
    tail->real = former.real;
    unlink(*tail);
    of_log.push_back(tail);
    last = tail;
  }
  return last;
}

Tail* Follower::adopt(std::uint32_t index, const std::string& path, std::unique_ptr<FileSource> file,
                      Tail* before) {
  FollowedSource& source = sources_[index];
  if (tail_of(file->id()) != nullptr) return nullptr;  // the name has moved on since it was looked at
  auto owned = std::make_unique<Tail>();
  Tail& tail = *owned;
  tail.source = index;
  tail.path = path;
  tail.real = real_path(path);
  tail.file = file.get();
  tail.stream = std::move(file);
  tail.predecessor = before;
  tail.grown_at = instant_;
  if (!tail.file->on_remote_filesystem()) {
    tail.watch = watch_.watch_file(tail.file->fd());
    if (!tail.watch && watch_.fd() >= 0) unwatchable(tail.path, errno);
  }
  if (tail.watch) {
    by_watch_[*tail.watch] = &tail;
  } else {
    ++source.polled;
  }
  if (before != nullptr) tail.live = before->live;
  by_inode_[inode_of(tail.file->id())] = &tail;
  ++source.open;
  place(tail, source);
  if (!tail.resumed) found_files_ = true;
  tails_.push_back(std::move(owned));
  mark_dirty(tail);
  mark_changed(tail);
  if (before != nullptr) LOGBELL_FAULT("reader.rotation.adopted");
  return &tail;
}

// Where reading of a file begins: where a former process stood, what a first start needs, or its beginning.
void Follower::place(Tail& tail, FollowedSource& source) {
  const auto is_it = [&](const Saved& saved) { return tail.file->is_file_of(saved.position); };
  // Somebody copied into a copy anew.
  std::erase_if(retired_, [&](const Saved& saved) {
    return saved.position.copy && is_it(saved) && !tail.file->begins_with(content_of(saved.position), false);
  });
  for (std::vector<Saved>* places : {&saved_, &retired_}) {
    const auto found = std::find_if(places->begin(), places->end(), is_it);
    if (found == places->end()) continue;
    const rules::Result<Rewrite> rewrite = tail.file->resume(found->position);
    tail.resumed = true;
    tail.copy = found->position.copy;
    tail.left = found->position.rotated;
    tail.former = found->position.path;
    if (rewrite && *rewrite == Rewrite::kNone) {
      if (found->position.offset == 0) tail.empty_since_ns = found->position.modified_ns;
      tail.watermark = found->position.watermark;
      tail.last_time = found->position.watermark;
      source.watermark = std::max(source.watermark, tail.watermark);
    } else {
      ledger_.add("logbell_source_rotations_total",
                  {{"source", source.spec->name},
                   {"kind", rewrite && *rewrite == Rewrite::kTruncated ? "truncate" : "rewrite"}},
                  1);
      // How much was written before it was cut, nobody can tell; but a copy may hold it.
      if (source.scanned) {
        gap(tail.source, "truncated_while_down", now_);
      } else {
        tail.cut = content_of(found->position);
        tail.cut_open = found->position.open;
      }
    }
    if (tail.file->offset() == 0 && !tail.file->cut().empty()) {
      if (const rules::Result<FileStat> stat = tail.file->stat()) tail.emptied_ns = stat->modified_ns;
    }
    if (!found->key.empty() && found->key != key_of(tail)) erased_.push_back(found->key);
    places->erase(found);
    return;
  }
  if (!source.placing || source.scanned) return;
  const FirstPlace place =
      first_place(*tail.file, *source.spec, source.window, plan_->max_replay_age, now_, times_);
  if (place.offset > 0) static_cast<void>(tail.file->start_at(place.offset));
  if (!source.watched_from || place.watched_from > *source.watched_from) {
    source.watched_from = place.watched_from;
    source.changed = true;
  }
}

// Places of a former process whose files no pattern leads to: they were renamed while nobody looked, and lie
// beside their old names; or they are gone, and with them what was not read. Returns those names.
std::set<std::string> Follower::recover_rotated(std::uint32_t index) {
  const std::string& name = sources_[index].spec->name;
  std::map<std::string, std::vector<Saved>> lost;  // by path
  std::vector<FilePosition> positions;
  for (auto it = saved_.begin(); it != saved_.end();) {
    if (it->source != name) {
      ++it;
      continue;
    }
    positions.push_back(it->position);
    lost[it->position.path].push_back(std::move(*it));
    it = saved_.erase(it);
  }
  struct Line {
    std::string path;
    Tail* last = nullptr;
    Tail* next = nullptr;            // what has the name now comes after them
    bool found = false;              // the youngest of them was: it is the last
    bool lost = false;               // something of them, and that is said
    std::vector<Content> gone = {};  // what was read of the others
  };
  std::vector<Line> lines;
  for (auto& [path, places] : lost) {
    // Copies hold what was there before; nothing came after them.
    std::sort(places.begin(), places.end(), [](const Saved& a, const Saved& b) {
      return std::tuple(!a.position.copy, a.position.id.born_ns) <
             std::tuple(!b.position.copy, b.position.id.born_ns);
    });
    Line line{.path = path};
    for (const std::unique_ptr<Tail>& tail : tails_) {
      if (tail->source == index && tail->file != nullptr && tail->linked && tail->real == path)
        line.next = tail.get();
    }
    for (Saved& saved : places) {
      const bool older = line.last != nullptr;
      if (Tail* tail = recover(index, saved, positions, line.last)) {
        line.last = tail;
        line.found = &saved == &places.back();
        // Of what was compressed, and nothing was read of, only its age shows which it is. The oldest are the first to go.
        if (tail->was && saved.position.offset == 0 && !older && !has_older(path, saved.position)) {
          report_lost(index, tail);
          line.lost = true;
        }
        continue;
      }
      erased_.push_back(saved.key);
      line.gone.insert(line.gone.end(), saved.position.cut.begin(), saved.position.cut.end());
      line.gone.push_back(content_of(saved.position));
      // Unless it was read to its end and its writer had left it, lines may be missing.
      const bool turned = saved.position.copy || unrotated(path) != path;
      const bool left = turned || &saved != &places.back() || line.next == nullptr || line.next->resumed;
      if (!saved.position.rotated || !left) {
        report_lost(index, line.next);
        line.lost = true;
      }
    }
    lines.push_back(line);
  }
  // Copies of what was cut come before what is left of it, and are nothing between.
  recover_cut(index);
  // What lies between is what no place is of.
  for (auto& [path, last, next, found, lost_some, gone] : lines) {
    // Who knew the newest one knew all between.
    const FilePosition& youngest = lost.at(path).back().position;
    if (!found && !youngest.copy && (next == nullptr || !next->resumed)) {
      Former former{.real = path, .file = {path, {}}, .held = youngest.cut};
      former.file.stat.id = youngest.id;
      former.file.stat.modified_ns = youngest.modified_ns;
      former.packed_from = youngest.modified_ns;
      former.held.push_back(content_of(youngest));
      Tail* const before = last;
      last = follow_after(index, path, former, last, next == nullptr ? nullptr : next->file,
                          rotated_siblings(path), names_in(directory_of(path)));
      // It is gone, as the oldest are the first to go: so may be others that came after it.
      if (before == nullptr && last != nullptr && !lost_some && !has_older(path, youngest)) report_lost(index, last);
    }
    const bool named = found && !last->copy;
    if (named && next == nullptr) last = follow_between(index, path, last, nullptr);
    if (named && next != nullptr && !next->resumed)
      last = follow_between(index, path, last, next->file);
    if (next != nullptr && next->predecessor == nullptr) next->predecessor = last;
    remember_gone(last == nullptr ? next : last, gone);
  }
  // One that a pattern finds under its new name still comes before what has its old name.
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (tail->source != index || tail->resumed || tail->copy || tail->predecessor != nullptr || tail->file == nullptr)
      continue;
    for (const std::unique_ptr<Tail>& other : tails_) {
      if (other->resumed && other->source == index && other->former == tail->real && other->linked)
        tail->predecessor = other.get();
    }
  }
  std::set<std::string> names;
  for (const auto& [path, places] : lost)
    names.insert(path);
  return names;
}

// Files that were cut while nobody looked. A copy of what they held before (copytruncate), compressed or not,
// has the rest of it, and those made after it are whole; without one the rest is missing.
void Follower::recover_cut(std::uint32_t index) {
  std::vector<std::pair<Tail*, Tail*>> cut;  // and the copy of what each held
  for (std::size_t i = tails_.size(); i-- > 0;) {
    Tail& tail = *tails_[i];
    if (tail.source != index || !tail.cut) continue;
    const Content content = *std::exchange(tail.cut, std::nullopt);
    const InCopy in_copy = content.offset == 0 ? InCopy{} : go_on_in_copy(tail, content, true);
    Tail* copy = in_copy.rest;
    if (copy == nullptr) {
      if (!in_copy.found) gap(index, "truncated_while_down", now_);
      continue;
    }
    if (!copy->resumed) copy->file->set_open_records(tail.cut_open);
    put_before(*copy, tail);
    cut.emplace_back(&tail, copy);
  }
  // It was copied and cut more than once: all copies that came later are of what nobody has read. Of what was renamed since
  // they were made before it was written to last.
  for (const auto& [tail, copy] : cut) {
    std::optional<std::int64_t> made_until;
    if (!tail->linked) {
      const rules::Result<FileStat> stat = tail->file->stat();
      if (!stat) continue;
      made_until = stat->modified_ns;
    }
    Tail* last = follow_between(index, tail->path, copy, nullptr, made_until);
    if (tail->predecessor == copy) tail->predecessor = last;
  }
}

// What `tail` held before it was cut, and was read as far as `content` says, in a copy that holds it, too.
Follower::InCopy Follower::go_on_in_copy(const Tail& tail, const Content& content, bool read_too) {
  std::vector<FoundFile> candidates = packed_siblings(tail.real);
  for (FoundFile& sibling : rotated_siblings(tail.real))
    candidates.push_back(std::move(sibling));
  for (const FoundFile& sibling : candidates) {
    if (Tail* const known = tail_of(sibling.stat.id)) {
      // A pattern finds it, too: what it has of this was passed, if anything. Or it is a copy of before, and somebody copied
      // into it anew.
      const bool overwritten =
          known->copy && !known->linked && (known->overwritten || !known->file->begins_with(known->file->content(), false));
      if ((!known->may_be_copy && !overwritten) || known->source != tail.source) continue;
      const rules::Result<std::uint64_t> size = known->file->look_again();
      if (!size || *size < content.offset || !known->file->begins_with(content)) continue;
      known->may_be_copy = known->overwritten = false;
      known->copy = true;
      if (overwritten || known->file->offset() < content.offset) static_cast<void>(known->file->go_on_from(content));
      mark_dirty(*known);
      mark_changed(*known);
      return {true, *size > content.offset || read_too ? known : nullptr, sibling};
    }
    rules::Result<std::unique_ptr<FileSource>> opened = FileSource::open(sibling.path);
    if (!opened || !(*opened)->begins_with(content)) continue;
    const rules::Result<std::uint64_t> size = (*opened)->size_now();
    if (!size || *size < content.offset) continue;
    if (*size == content.offset && !read_too) return {true, nullptr, sibling};
    Tail* copy = adopt(tail.source, tail.path, std::move(*opened), nullptr);
    if (copy == nullptr) continue;
    if (!copy->resumed) static_cast<void>(copy->file->go_on_from(content));
    copy->copy = true;
    copy->real = tail.real;
    unlink(*copy, true);
    return {true, copy, sibling};
  }
  return {};
}

// `copy` is read before `tail`, wherever it stood.
void Follower::put_before(Tail& copy, Tail& tail) {
  for (const std::unique_ptr<Tail>& other : tails_) {
    if (other->predecessor == &copy) other->predecessor = copy.predecessor;
  }
  copy.predecessor = std::exchange(tail.predecessor, &copy);
}

void Follower::pass_copied(Tail& tail) {
  if (!tail.may_be_copy) return;
  const Tail* const log = log_of(tail);
  if (log == nullptr) {
    tail.may_be_copy = false;
    return;
  }
  const FileSource& original = *log->file;
  const rules::Result<std::uint64_t> size = tail.file->look_again();
  if (!size || *size == 0) return;
  if (tail.file->is_copy_of(original)) {
    tail.copy = true;
    static_cast<void>(tail.file->start_behind_lines());
    mark_changed(tail);
    return;  // more of it may come
  }
  std::vector<Content> contents = original.cut();
  const Content read = original.content();
  if (!original.begins_with(read)) contents.push_back(read);  // cut, and not noticed yet
  std::reverse(contents.begin(), contents.end());
  const auto held = std::find_if(contents.begin(), contents.end(), [&](const Content& content) {
    return content.offset > 0 && tail.file->begins_with(content, !tail.came_unseen);
  });
  tail.may_be_copy = held != contents.end() && *size < held->offset;
  if (held == contents.end()) return;
  tail.copy = true;
  if (tail.may_be_copy) {
    static_cast<void>(tail.file->start_behind_lines());
  } else if (tail.file->offset() < held->offset) {
    static_cast<void>(tail.file->go_on_from(*held));
  }
  mark_changed(tail);
}

// Whether beside it lies a copy that nobody knows, born, or if it is compressed modified, after these.
bool Follower::has_younger_copy(const Tail& tail, std::int64_t born_ns, std::int64_t modified_ns) const {
  const auto is_unread = [&](const FoundFile& copy) {
    if (copy.stat.size == 0 || tail_of(copy.stat.id) != nullptr) return false;
    if (!has_packed_name(copy.path)) return true;
    const rules::Result<std::unique_ptr<FileSource>> opened = FileSource::open(copy.path);
    return !opened || (*opened)->size_now().value_or(1) > 0;
  };
  const std::vector<FoundFile> copies = rotated_siblings(tail.real);
  const std::vector<FoundFile> packed = packed_siblings(tail.real);
  return std::any_of(copies.begin(), copies.end(),
                     [&](const FoundFile& copy) { return copy.stat.id.born_ns > born_ns && is_unread(copy); }) ||
         std::any_of(packed.begin(), packed.end(),
                     [&](const FoundFile& copy) { return copy.stat.modified_ns > modified_ns && is_unread(copy); });
}

void Follower::find_copy_of_unread(Tail& tail, ReadStatus& status) {
  if (!tail.emptied_ns) return;
  const rules::Result<FileStat> stat = tail.file->stat();
  if (!stat) return;
  if (stat->modified_ns != *tail.emptied_ns) status.may_miss = has_younger_copy(tail, *tail.emptied_ns, *tail.emptied_ns);
  if (status.bytes == 0) {
    tail.emptied_ns = stat->modified_ns;
  } else {
    tail.emptied_ns.reset();
  }
}

void Follower::find_copy(Tail& tail, ReadStatus& status) {
  if (!status.cut_away || tail.file == nullptr || tail.file->is_packed() || tail.orphan) return;
  if (tail.copy) {
    // Somebody copies into it anew: that is nobody's log, and what it held is gone. What was copied is found once the log
    // itself is seen to be cut.
    if (const rules::Result<std::uint64_t> size = tail.file->size_now())
      static_cast<void>(tail.file->start_at(*size));
    status.may_miss = !tail.read_out;
    tail.overwritten = true;
    return;
  }
  if (const rules::Result<FileStat> stat = tail.file->stat()) tail.emptied_ns = stat->modified_ns;
  const InCopy in_copy = go_on_in_copy(tail, tail.file->cut().back(), false);
  if (!in_copy.found) return;
  status.bytes_lost = 0;
  // Copied and cut once more before anybody looked: of what that copy holds nothing was read, and nobody can
  // tell it from the copy of another log of this name. A restart reads it.
  // A compressed one is older than its birth.
  const bool packed = has_packed_name(in_copy.file.path);
  const FileStat& made = in_copy.file.stat;
  status.may_miss = has_younger_copy(tail, packed ? made.modified_ns : made.id.born_ns, made.modified_ns);
  Tail* copy = in_copy.rest;
  if (copy == nullptr) return;
  put_before(*copy, tail);
  copy->live = tail.live;
  copy->watermark = tail.watermark;
  copy->last_time = tail.last_time;
  if (tail.decoder != nullptr) {
    // What is unfinished goes on there.
    copy->decoder = std::move(tail.decoder);
    copy->file->set_open_records(copy->decoder->open());
  }
}

Tail* Follower::adopt_recovered(std::uint32_t index, const Saved& saved, std::unique_ptr<FileSource> file,
                                Tail* before) {
  saved_.push_back(saved);  // for place()
  Tail* tail = adopt(index, saved.position.path, std::move(file), before);
  if (tail == nullptr) return nullptr;
  tail->real = saved.position.path;
  unlink(*tail, saved.position.unlinked);
  return tail;
}

// The file of a place, if it lies beside its old name: itself, or compressed; then no other of `places` is of it.
Tail* Follower::recover(std::uint32_t index, const Saved& saved, const std::vector<FilePosition>& places, Tail* before) {
  const FilePosition& position = saved.position;
  std::vector<FoundFile> candidates = rotated_siblings(position.path);
  // What they hold tells which it is, so a number may have moved on.
  std::vector<FoundFile> packed = packed_of({unrotated(position.path), position.path}, names_in(directory_of(position.path)));
  candidates.insert(candidates.end(), packed.begin(), packed.end());
  // Behind a link that leads elsewhere now it has its old name still.
  if (const rules::Result<FileStat> stat = stat_path(position.path))
    candidates.push_back({position.path, *stat});
  for (const FoundFile& sibling : candidates) {
    if (sibling.stat.id.inode != position.id.inode || tail_of(sibling.stat.id) != nullptr) continue;
    rules::Result<std::unique_ptr<FileSource>> opened = FileSource::open(sibling.path);
    if (!opened || !(*opened)->is_file_of(position)) continue;
    if (Tail* tail = adopt_recovered(index, saved, std::move(*opened), before)) return tail;
  }
  // Its inode and what it holds show it under any name; what a pattern means by that name is another log.
  const std::string directory = directory_of(position.path);
  for (const std::string& beside : names_in(directory)) {
    std::string path = directory;
    path.append("/").append(beside);
    const rules::Result<FileStat> stat = stat_path(path);
    if (!stat || !stat->is_regular() || stat->id.inode != position.id.inode || tail_of(stat->id) != nullptr) continue;
    if (std::any_of(plan_->sources.begin(), plan_->sources.end(), [&](const rules::SourceSpec& spec) {
          return std::any_of(spec.files.begin(), spec.files.end(),
                             [&](const std::string& pattern) { return could_match(pattern, path); });
        }))
      continue;
    rules::Result<std::unique_ptr<FileSource>> opened = FileSource::open(path);
    if (!opened || !(*opened)->is_file_of(position) || !(*opened)->begins_with(content_of(position))) continue;
    if (Tail* tail = adopt_recovered(index, saved, std::move(*opened), before)) return tail;
  }
  if (position.offset == 0 && position.rotated) return nullptr;  // it was empty, and nothing came into it any more
  std::stable_partition(packed.begin(), packed.end(),
                        [&](const FoundFile& file) { return file.stat.modified_ns >= position.modified_ns; });
  for (const FoundFile& sibling : packed) {
    // Older than what was read: it is one of before.
    if (sibling.stat.modified_ns < position.modified_ns - kModifiedPrecision ||
        tail_of(sibling.stat.id) != nullptr)
      continue;
    rules::Result<std::unique_ptr<FileSource>> opened = FileSource::open(sibling.path);
    if (!opened || !(*opened)->holds(position)) continue;
    const bool is_of_other = std::any_of(places.begin(), places.end(), [&](const FilePosition& other) {
      return other.id == (*opened)->id() || (position.offset == 0 && other.offset > 0 && (*opened)->holds(other));
    });
    const bool is_of_cut = std::any_of(tails_.begin(), tails_.end(), [&](const std::unique_ptr<Tail>& tail) {
      return tail->source == index && tail->cut && (*opened)->begins_with(*tail->cut, false);
    });
    if (is_of_other || (position.offset == 0 && is_of_cut)) continue;
    // Of a log that is copied and not cut each copy begins like the next.
    if (position.copy && std::any_of(tails_.begin(), tails_.end(), [&](const std::unique_ptr<Tail>& tail) {
          return tail->source == index && tail->file != nullptr && tail->linked && (*opened)->is_copy_of(*tail->file);
        }))
      continue;
    Saved now = saved;
    now.position.id = (*opened)->id();
    Tail* tail = adopt_recovered(index, now, std::move(*opened), before);
    if (tail == nullptr) continue;
    tail->was = FileStat{.id = position.id,
                         .size = position.offset,
                         .links = 1,
                         .mode = 0,
                         .modified_ns = position.modified_ns};
    return tail;
  }
  return nullptr;
}

// Files that came while nobody looked and were renamed since. What has their name now is new, and the name
// not `known`; what was born before it, and after the last look of a former process, had it before.
void Follower::follow_unseen(std::uint32_t index, const std::set<std::string>& known) {
  const FollowedSource& source = sources_[index];
  if (!source.seen_ns) return;
  std::vector<Tail*> fresh;
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (tail->source == index && tail->file != nullptr && tail->linked && !tail->resumed && !tail->orphan &&
        tail->predecessor == nullptr && known.count(tail->real) == 0)
      fresh.push_back(tail.get());
  }
  Listings listed;
  for (Tail* tail : fresh)
    tail->predecessor = follow_since(index, tail->path, *source.seen_ns, tail->file, listed);
  // One of which nothing was read, as it had just been cut: it shows nothing of what was written into it since, copied
  // and cut once more.
  std::vector<Tail*> empty;
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (tail->source == index && tail->file != nullptr && tail->linked && tail->empty_since_ns && !tail->orphan &&
        !tail->file->is_packed() && (tail->predecessor == nullptr || tail->predecessor->copy))
      empty.push_back(tail.get());
  }
  for (Tail* tail : empty) {
    Former former{.real = tail->real, .file = {tail->real, {}}, .held = tail->file->cut(), .copy = true, .packed_from = *source.seen_ns};
    former.file.stat.id.born_ns = *source.seen_ns;
    tail->predecessor = follow_after(index, tail->path, former, tail->predecessor, nullptr, rotated_siblings(tail->real),
                                      names_in(directory_of(tail->real)));
    if (may_have_lost_copies(*tail, *source.seen_ns)) gap(index, "rotated_away_while_down", now_);
  }
  // A name that nobody has at the moment may have been had, too.
  std::set<std::string> names;
  for (const std::string& path : source.spec->files) {
    if (path == kStdin) continue;
    if (is_pattern(path)) {
      names.merge(rotated_names(path));
    } else {
      names.insert(path);
    }
  }
  for (const std::string& path : names) {
    if (stat_path(path) || known.count(real_path(path)) > 0) continue;
    static_cast<void>(follow_since(index, path, *source.seen_ns, nullptr, listed));
  }
}

// Whether copies may be gone again that were made of what was known as empty. The oldest is the first to go: not if one is
// there that is older than the last look, or of what was read.
bool Follower::may_have_lost_copies(const Tail& tail, std::int64_t seen_ns) const {
  const rules::Result<FileStat> stat = tail.file->stat();
  if (!stat || stat->modified_ns <= *tail.empty_since_ns || tail.file->cut().empty()) return false;
  std::vector<FoundFile> copies = rotated_siblings(tail.real);
  const std::vector<FoundFile> packed = packed_siblings(tail.real);
  // Without any it is not that: but what is empty and was written to has been cut.
  if (copies.empty() && packed.empty()) return stat->size == 0;
  if (std::any_of(copies.begin(), copies.end(), [&](const FoundFile& copy) { return copy.stat.id.born_ns <= seen_ns; }) ||
      std::any_of(packed.begin(), packed.end(), [&](const FoundFile& copy) { return copy.stat.modified_ns <= seen_ns; }))
    return false;
  copies.insert(copies.end(), packed.begin(), packed.end());
  return std::none_of(copies.begin(), copies.end(), [&](const FoundFile& copy) {
    const rules::Result<std::unique_ptr<FileSource>> opened = FileSource::open(copy.path);
    return opened && std::any_of(tail.file->cut().begin(), tail.file->cut().end(),
                                 [&](const Content& content) { return (*opened)->begins_with(content, false); });
  });
}

// Files that had the name of `newest` before it and were born since `seen_ns`. Returns the last of them.
Tail* Follower::follow_since(std::uint32_t index, const std::string& path, std::int64_t seen_ns,
                             const FileSource* newest, Listings& listed) {
  const std::string real = real_path(path);
  const auto [directory, is_new] = listed.try_emplace(directory_of(real));
  if (is_new) directory->second = names_in(directory->first);
  Former former{.real = real, .file = {real, {}}, .held = {}};
  former.file.stat.id.born_ns = seen_ns;
  former.packed_from = seen_ns;
  return follow_after(index, path, former, nullptr, newest, rotated_siblings(real, directory->second),
                      directory->second);
}

// Whether beside `path` lies a rotated file that had the name before that of `position`.
bool Follower::has_older(const std::string& path, const FilePosition& position) {
  const std::vector<FoundFile> files = rotated_siblings(unrotated(path));
  const std::vector<FoundFile> packed = packed_of({unrotated(path), path}, names_in(directory_of(path)));
  return std::any_of(files.begin(), files.end(),
                     [&](const FoundFile& file) { return file.stat.id.born_ns < position.id.born_ns; }) ||
         std::any_of(packed.begin(), packed.end(),
                     [&](const FoundFile& file) { return file.stat.modified_ns < position.modified_ns; });
}

void Follower::report_lost(std::uint32_t index, const Tail* next) {
  if (next == nullptr) return gap(index, "deleted_while_down", now_);
  // Whatever was written since the one that is there was born is in it.
  const std::int64_t born = next->file->id().born_ns;
  gap(index, "rotated_away_while_down",
      born == 0 ? now_ : std::min(now_, rules::from_unix_ms(born / 1'000'000)));
}

// Whatever had the same name before knows from here on what others held that are gone: a copy of it may be
// left.
void Follower::remember_gone(Tail* before, const std::vector<Content>& gone) {
  if (before == nullptr || before->file == nullptr || before->orphan) return;
  for (const Content& content : gone)
    before->file->remember(content);
  mark_changed(*before);
}

void Follower::close(Tail& tail) {
  FollowedSource* source = tail.orphan ? nullptr : &sources_[tail.source];
  if (tail.watch) {
    by_watch_.erase(*tail.watch);
    watch_.forget(*tail.watch);
  } else if (source != nullptr && tail.file != nullptr) {
    --source->polled;
  }
  if (source != nullptr) --source->open;
  if (source != nullptr && source->looked_ns != 0) source->changed = true;  // what it was is known as read, and forgotten
  if (!tail.orphan && (tail.file != nullptr || tail.stream->place())) erased_.push_back(key_of(tail));
  if (tail.file != nullptr) {
    by_inode_.erase(inode_of(tail.file->id()));
  }
  if (tail.file != nullptr && tail.predecessor != nullptr && !tail.copy) {
    std::vector<Content> gone = tail.file->cut();
    gone.push_back(tail.file->content());
    remember_gone(tail.predecessor, gone);
  }
  std::erase(dirty_, &tail);
  std::erase(changed_, &tail);
  for (const std::unique_ptr<Tail>& other : tails_) {
    if (other->predecessor == &tail) other->predecessor = tail.predecessor;
  }
  std::erase_if(tails_, [&](const std::unique_ptr<Tail>& owned) { return owned.get() == &tail; });
}

void Follower::flush_last() {
  for (const std::unique_ptr<Tail>& tail : tails_) {
    if (tail->orphan) continue;
    if (tail->decoder != nullptr && tail->decoder->due()) {
      tail->flush_everything = true;
      mark_dirty(*tail);
    }
    if (tail->file == nullptr || tail->stream->pending() == 0 || tail->stream->pending_is_evaluated())
      continue;
    const rules::Result<FileStat> stat = tail->file->stat();
    if (!stat || stat->links > 0) continue;
    tail->flush = true;
    mark_dirty(*tail);
  }
}

// --- after a read

void Follower::take_news(Tail& tail) {
  const StreamNews news = tail.stream->take_news();
  for (const StreamNews::Count& count : news.counts) {
    rules::Labels labels = label(tail.source);
    if (!count.label.empty()) labels.set(std::string(count.label), std::string(count.value));
    ledger_.add(std::string(count.name), labels, count.by);
  }
  for (const std::string& warning : news.warnings)
    ledger_.note({ReaderNote::Level::kWarn, sources_[tail.source].spec->name, tail.path, warning});
  if (!news.gap.empty()) gap(tail.source, news.gap, now_);
}

void Follower::after_read(Tail& tail, const ReadStatus& status, Timestamp now, Instant instant) {
  FollowedSource& source = sources_[tail.source];
  if (tail.file == nullptr) take_news(tail);
  if (!tail.error.empty()) {
    ledger_.note({ReaderNote::Level::kInfo, source.spec->name, tail.path, "Can be read again."});
    tail.error.clear();
    tail.back_off = Duration{0};
  }
  // Of a rotated one it is stored that it was read to its end, though that read found nothing more.
  if (status.bytes > 0 || status.rewrite != Rewrite::kNone || tail.flush || tail.flush_records ||
      tail.flush_everything || (!tail.linked && status.at_end))
    mark_changed(tail);
  // Who had its name before is left from here on.
  if (status.bytes > 0 && tail.predecessor != nullptr && tail.stream->offset() == status.bytes) mark_changed(*tail.predecessor);
  tail.flush_records = false;
  if (status.at_end) tail.flush = tail.flush_everything = false;
  if (status.grew) tail.grown_at = instant;
  if (status.bytes > 0) tail.left = false;
  if (status.rewrite != Rewrite::kNone) {
    ledger_.add("logbell_source_rotations_total",
                {{"source", source.spec->name},
                 {"kind", status.rewrite == Rewrite::kTruncated ? "truncate" : "rewrite"}},
                1);
  }
  if (status.bytes_lost > 0) {
    ledger_.add("logbell_source_bytes_lost_total", {{"source", source.spec->name}, {"cause", "truncated"}},
                static_cast<double>(status.bytes_lost));
  }
  if (status.bytes_lost > 0 || status.may_miss) gap(tail.source, "truncated", now);
  if (tail.file != nullptr && tail.trouble.empty() && !tail.file->trouble().empty()) {
    tail.trouble = tail.file->trouble();
    gap(tail.source, tail.trouble, now);
    ledger_.note({ReaderNote::Level::kError, source.spec->name, tail.path,
                  fmt::format("{} ends early at byte {} of what it holds ({}).",
                              past_ ? "It is compressed, and" : "The compressed file that it was rotated to",
                              tail.file->known_size(), tail.trouble)});
  }
  tail.ended = status.ended;
  tail.read_out = status.at_end;
  if (status.at_end || status.ended) {
    tail.dirty = false;
    tail.live = true;
    std::erase(dirty_, &tail);
    if (!tail.linked) at(std::max(instant, leaves_at(tail)));
    if (tail.stream->pending() > 0 && !tail.stream->pending_is_evaluated())
      at(tail.grown_at + kPartialTimeout);
    if (const auto due = tail.decoder == nullptr ? std::nullopt : tail.decoder->due()) at(*due);
  } else {
    tail.dirty_since = instant;
  }
}

void Follower::after_failure(Tail& tail, const rules::Error& error, Instant instant) {
  if (tail.error.empty()) {
    tail.failing_since = instant;
    ledger_.note({ReaderNote::Level::kError, sources_[tail.source].spec->name, tail.path, error.message});
  }
  ledger_.add("logbell_source_read_errors_total", label(tail.source), 1);
  tail.error = error.message;
  tail.back_off = tail.back_off == Duration{0} ? kFirstBackOff : std::min(2 * tail.back_off, kMaxBackOff);
  tail.retry_at = instant + tail.back_off;
  at(tail.retry_at);
}

}  // namespace logbell::engine
