#include "engine/io/file_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/io/crew.h"
#include "engine/io/decode.h"
#include "rules/json.h"
#include "rules/labels.h"

// A stored position: {"path", "dev", "ino", "born", "mtime", "off", "head": [bytes, hash], "mark": [bytes,
// hash], "skip"?: true, "done"?: bytes evaluated of the unfinished line, "unlinked"?: true, "rotated"?: true,
// "copy"?: true, "wm"?: watermark, "open"?: [[stream, from, lines, parts, carried, evaluated, lent] …],
// "cut"?: [{"off", "head", "mark", "skip"?, "done"?} …]}. Times are nanoseconds, the watermark milliseconds;
// 64-bit hashes are hex.

namespace logbell::engine {
namespace {

using rules::ErrorCode;
using rules::fail;
using rules::Json;
using rules::Result;

Result<FileStat> stat_of(int dir, const char* path, int flags) {
  struct statx found {};
  if (::statx(dir, path, flags, STATX_BASIC_STATS | STATX_BTIME, &found) != 0) {
    const int error = errno;
    const bool absent = error == ENOENT || error == ENOTDIR;
    return fail(absent ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("stat {}: {}", *path == '\0' ? "the open file" : path, rules::errno_text(error)));
  }
  const auto in_ns = [](const statx_timestamp& at) { return at.tv_sec * 1'000'000'000 + at.tv_nsec; };
  FileStat stat;
  stat.id.device = makedev(found.stx_dev_major, found.stx_dev_minor);
  stat.id.inode = found.stx_ino;
  stat.id.born_ns = (found.stx_mask & STATX_BTIME) != 0 ? in_ns(found.stx_btime) : 0;
  stat.size = found.stx_size;
  stat.links = found.stx_nlink;
  stat.mode = found.stx_mode;
  stat.modified_ns = in_ns(found.stx_mtime);
  stat.mount_root = (found.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  return stat;
}

std::string_view kind_of(std::uint32_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "no regular file";
}

enum class FilesystemKind { kLocal, kRemote, kKernel };

FilesystemKind filesystem_of(int fd) {
  struct statfs found {};
  if (::fstatfs(fd, &found) != 0) return FilesystemKind::kLocal;
  // Numbers of linux/magic.h, and of file systems whose headers are elsewhere.
  switch (static_cast<std::uint32_t>(found.f_type)) {
    case 0x9FA0:      // proc
    case 0x62656572:  // sysfs
    case 0x64626720:  // debugfs
    case 0x74726163:  // tracefs
      return FilesystemKind::kKernel;
    case 0x6969:      // NFS
    case 0xFF534D42:  // CIFS
    case 0xFE534D42:  // SMB2
    case 0x65735546:  // FUSE
    case 0x01021997:  // 9P
    case 0x00C36400:  // Ceph
    case 0x5346414F:  // AFS
      return FilesystemKind::kRemote;
    default:
      return FilesystemKind::kLocal;
  }
}

Mark mark_of(std::string_view bytes) {
  return {static_cast<std::uint32_t>(bytes.size()), rules::hash_bytes(bytes)};
}

Json mark_json(const Mark& mark) {
  return Json::Array{Json(static_cast<std::int64_t>(mark.bytes)), Json(fmt::format("{:016x}", mark.hash))};
}
Mark mark_from(const Json& json) {
  return {static_cast<std::uint32_t>(json.at(0).integer()),
          std::strtoull(std::string(json.at(1).string()).c_str(), nullptr, 16)};
}

void set_content(Json& json, const Content& content) {
  json.set("off", content.offset);
  json.set("head", mark_json(content.head));
  json.set("mark", mark_json(content.before));
  if (content.line.skipping) json.set("skip", true);
  if (content.line.evaluated > 0) json.set("done", static_cast<std::int64_t>(content.line.evaluated));
}
Content content_from(const Json& json) {
  Content content;
  content.offset = static_cast<std::uint64_t>(json["off"].integer());
  content.head = mark_from(json["head"]);
  content.before = mark_from(json["mark"]);
  content.line = {json["skip"].boolean(), static_cast<std::uint32_t>(json["done"].integer())};
  return content;
}

Json open_json(const OpenRecords& open) {
  Json list{Json::Array{}};
  for (std::size_t i = 0; i < open.streams.size(); ++i) {
    const OpenRecords::One& one = open.streams[i];
    if (one == OpenRecords::One{}) continue;
    list.push(Json::Array{Json(static_cast<std::int64_t>(i)), Json(one.from), Json(one.lines),
                          Json(one.parts), Json(one.carried), Json(static_cast<std::int64_t>(one.evaluated)),
                          Json(one.lent)});
  }
  return list;
}
OpenRecords open_from(const Json& json) {
  OpenRecords open;
  for (const Json& one : json.array()) {
    const auto which = static_cast<std::size_t>(one.at(0).integer());
    if (which >= open.streams.size()) continue;
    open.streams[which] = {.from = static_cast<std::uint64_t>(one.at(1).integer()),
                           .carried = one.at(4).boolean(),
                           .lines = one.at(2).boolean(),
                           .parts = one.at(3).boolean(),
                           .evaluated = static_cast<std::uint32_t>(one.at(5).integer()),
                           .lent = one.at(6).boolean()};
  }
  return open;
}

}  // namespace

bool FileStat::is_regular() const {
  return S_ISREG(mode);
}

Result<FileStat> stat_path(const std::string& path) {
  return stat_of(AT_FDCWD, path.c_str(), 0);
}

std::string encode(const FilePosition& position) {
  Json json;
  json.set("path", position.path);
  json.set("dev", fmt::format("{:x}", position.id.device));
  json.set("ino", fmt::format("{:x}", position.id.inode));
  json.set("born", position.id.born_ns);
  json.set("mtime", position.modified_ns);
  set_content(json, {position.head, position.before, position.offset, position.line});
  if (position.unlinked) json.set("unlinked", true);
  if (position.rotated) json.set("rotated", true);
  if (position.copy) json.set("copy", true);
  if (position.watermark != rules::kLongAgo) json.set("wm", rules::to_unix_ms(position.watermark));
  if (!position.open.empty()) json.set("open", open_json(position.open));
  if (!position.cut.empty()) {
    Json cut{Json::Array{}};
    for (const Content& content : position.cut) {
      Json one;
      set_content(one, content);
      cut.push(std::move(one));
    }
    json.set("cut", std::move(cut));
  }
  return json.dump();
}

Result<FilePosition> decode_position(std::string_view text) {
  const Result<Json> json = Json::parse(text);
  if (!json) return fail(json.error().while_("read a stored position"));
  const Json& in = *json;
  if (!in["ino"].is_string() || !in["off"].is_integer() || in["off"].integer() < 0)
    return fail(ErrorCode::kCorrupt, "read a stored position: it names no file or no place");
  const auto hex = [&](std::string_view name) {
    return std::strtoull(std::string(in[name].string()).c_str(), nullptr, 16);
  };
  FilePosition position;
  position.path = in["path"].string();
  position.id = {hex("dev"), hex("ino"), in["born"].integer()};
  position.modified_ns = in["mtime"].integer();
  const Content content = content_from(in);
  position.offset = content.offset;
  position.head = content.head;
  position.before = content.before;
  position.line = content.line;
  position.open = open_from(in["open"]);
  for (const Json& cut : in["cut"].array())
    position.cut.push_back(content_from(cut));
  position.unlinked = in["unlinked"].boolean();
  position.rotated = in["rotated"].boolean();
  position.copy = in["copy"].boolean();
  if (in["wm"].is_integer()) position.watermark = rules::from_stored_ms(in["wm"].integer());
  return position;
}

Result<std::unique_ptr<FileSource>> FileSource::open(const std::string& path) {
  const Result<FileStat> before = stat_path(path);
  if (!before) return fail(before.error());
  // Looked at before it is opened: to open a pipe or a device can already do something.
  if (!before->is_regular())
    return fail(ErrorCode::kInvalid, fmt::format("open {}: it is {}", path, kind_of(before->mode)));
  const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) {
    const int error = errno;
    return fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("open {}: {}", path, rules::errno_text(error)));
  }
  const Result<FileStat> stat = stat_of(fd, "", AT_EMPTY_PATH);
  const FilesystemKind filesystem = filesystem_of(fd);
  const bool regular = stat && stat->is_regular();
  if (!regular || filesystem == FilesystemKind::kKernel) {
    ::close(fd);
    if (!stat) return fail(stat.error().while_("open " + path));
    return fail(ErrorCode::kInvalid, fmt::format("open {}: it is {}", path,
                                                 regular ? "a file of the kernel's" : kind_of(stat->mode)));
  }
  return std::unique_ptr<FileSource>(new FileSource(fd, *stat, filesystem == FilesystemKind::kRemote));
}

FileSource::FileSource(int fd, const FileStat& stat, bool remote)
    : fd_(fd), id_(stat.id), remote_(remote), known_size_(0), modified_ns_(stat.modified_ns) {
  std::array<char, 4> first{};
  const Result<std::size_t> got = read_at(0, first.data(), first.size());
  const Compression compression = compression_of({first.data(), got.value_or(0)});
  if (compression != Compression::kNone) unpacked_ = std::make_unique<Unpacked>(fd_, compression, stat.size);
  refresh_head(stat.size);
  if (is_packed()) unpacked_->rest();
}

FileSource::~FileSource() {
  ::close(fd_);
}

// Reads `place` by a crew: copying from the page cache takes as long as the search in it, so several copy, and count and
// search what they have in their caches. Empty: nobody helps, or it comes to the end.
std::string_view FileSource::read_together(const ReadAhead::Place& place, const ReadBuffer& buffer) const {
  if (is_packed() || buffer.ahead == nullptr || place.bytes < 2 * SharedRead::kPieceBytes) return {};
  const std::string_view text = buffer.ahead->read_before(place);
  if (!text.empty()) return text;
  const Result<FileStat> now = stat();
  if (!now || now->size <= place.from + place.bytes) return {};
  return buffer.ahead->read_now(place);
}

Result<std::size_t> FileSource::read_at(std::uint64_t offset, char* into, std::size_t bytes) const {
  return is_packed() ? unpacked_->read_at(offset, into, bytes) : read_fully(fd_, offset, into, bytes);
}

Result<FileStat> FileSource::stat() const {
  return stat_of(fd_, "", AT_EMPTY_PATH);
}

Result<std::uint64_t> FileSource::size_now() const {
  if (is_packed()) return unpacked_->size();
  const Result<FileStat> now = stat();
  if (!now) return fail(now.error());
  return now->size;
}

Result<std::uint64_t> FileSource::look_again() {
  Result<std::uint64_t> size = size_now();
  if (size && !is_packed()) refresh_head(*size);
  return size;
}

bool FileSource::looks_changed(const FileStat& stat) const {
  return (!is_packed() && stat.size != known_size_) || stat.modified_ns != modified_ns_;
}

// Young files grow a fingerprint as they grow.
void FileSource::refresh_head(std::uint64_t known_end) {
  if (head_.bytes >= kHeadBytes || known_end <= head_.bytes) return;
  std::array<char, kHeadBytes> head;
  const Result<std::size_t> got = read_at(0, head.data(), head.size());
  if (!got) return;
  const std::string_view bytes(head.data(), *got);
  head_ = mark_of(bytes);
  encoding_ = byte_order_mark(bytes).encoding;
}

void FileSource::note_read() {
  const std::size_t wanted = std::min<std::uint64_t>(offset_, kHeadBytes);
  if (read_head_.bytes == wanted) return;
  std::array<char, kHeadBytes> head;
  const Result<std::size_t> got = read_at(0, head.data(), wanted);
  // A mark of less holds as well.
  if (got && *got == wanted) read_head_ = mark_of({head.data(), wanted});
}

Mark FileSource::mark_before(std::uint64_t offset) const {
  std::array<char, kMarkBytes> bytes;
  const std::size_t wanted = std::min<std::uint64_t>(offset, kMarkBytes);
  const Result<std::size_t> got = read_at(offset - wanted, bytes.data(), wanted);
  if (!got || *got < wanted) return {};
  return mark_of({bytes.data(), wanted});
}

bool FileSource::matches(const Mark& mark, std::uint64_t end) const {
  if (mark.bytes == 0) return end == 0;
  if (mark.bytes > end || mark.bytes > kHeadBytes) return false;
  std::array<char, kHeadBytes> bytes;
  const Result<std::size_t> got = read_at(end - mark.bytes, bytes.data(), mark.bytes);
  return got && *got == mark.bytes && mark_of({bytes.data(), *got}) == mark;
}

bool FileSource::is_file_of(const FilePosition& position) const {
  if (position.id.inode != id_.inode) return false;
  if (position.id.born_ns != 0 && id_.born_ns != 0) return position.id.born_ns == id_.born_ns;
  return position.id.device == id_.device;  // what it holds tells: resume()
}

bool FileSource::holds(const FilePosition& position) const {
  if (!is_packed() || (position.head.bytes == 0 && position.offset > 0)) return false;
  return (position.head.bytes == 0 || matches(position.head, position.head.bytes)) &&
         matches(position.before, position.offset);
}

Result<Rewrite> FileSource::resume(const FilePosition& position) {
  const bool same_head = position.head.bytes == 0 || matches(position.head, position.head.bytes);
  const bool same = same_head && matches(position.before, position.offset);
  const Result<std::uint64_t> size =
      same && is_packed() ? Result<std::uint64_t>(position.offset) : size_now();
  if (!size) return fail(size.error());
  cut_ = position.cut;
  if (*size >= position.offset && same) {
    offset_ = position.offset;
    line_ = position.line;
    before_ = position.before;
    read_head_ = position.head;
    note_read();
    open_ = position.open;
    // A flushed line may have been cut away with its end.
    if (!is_packed() && offset_ + line_.evaluated > *size) line_.evaluated = 0;
    return Rewrite::kNone;
  }
  remember({position.head, position.before, position.offset, position.line});
  return *size < position.offset ? Rewrite::kTruncated : Rewrite::kRewritten;
}

void FileSource::remember(Content content) {
  if (content.offset == 0) return;  // nothing of it was read
  if (cut_.size() >= kRememberedContents) cut_.erase(cut_.begin());
  cut_.push_back(content);
}

bool FileSource::remember_copy(const FileSource& copy) {
  const Content read = copy.content();
  for (Content& known : cut_) {
    if (known.offset == 0 || !copy.begins_with(known)) continue;
    if (known.offset >= read.offset) return false;
    known = read;
    return true;
  }
  remember(read);
  return read.offset > 0;
}

bool FileSource::is_copy_of(const FileSource& original) const {
  // The end of what is compressed is found by unpacking all of it: only where the beginning is the same.
  if (head_.bytes == 0 || !original.matches(head_, head_.bytes)) return false;
  const Result<std::uint64_t> size = size_now();
  if (!size || *size == 0) return false;
  const Mark end = mark_before(*size);
  return end.bytes > 0 && original.matches(end, *size) && is_alike(original, *size);
}

// Long lines may differ in a few bytes only: a beginning and an end alone do not tell. All of what is not large, and
// parts of what is.
bool FileSource::is_alike(const FileSource& original, std::uint64_t size) const {
  constexpr std::size_t kPart = 16 * 1024;
  constexpr std::uint64_t kMostParts = 256;  // 4 MiB
  // To look into the midst of what is compressed, all before it is unpacked again: at once, or not at all.
  constexpr std::size_t kMostUnpacked = 1024 * 1024;
  const bool packed = is_packed() || original.is_packed();
  if (packed && size > kMostUnpacked) return true;
  const std::size_t part = packed ? kMostUnpacked : kPart;
  const std::uint64_t stride = std::max<std::uint64_t>(part, size / kMostParts);
  std::vector<char> mine(std::min<std::uint64_t>(part, size));
  std::vector<char> its(mine.size());
  for (std::uint64_t from = 0; from < size; from += stride) {
    const std::size_t wanted = std::min<std::uint64_t>(part, size - from);
    const Result<std::size_t> got = read_at(from, mine.data(), wanted);
    const Result<std::size_t> of_original = original.read_at(from, its.data(), wanted);
    if (!got || !of_original || *got != wanted || *of_original != wanted) return false;
    if (!std::equal(mine.begin(), mine.begin() + static_cast<std::ptrdiff_t>(wanted), its.begin())) return false;
  }
  return true;
}

bool FileSource::is_small() const {
  if (is_packed()) return false;  // to know it, all of it would be unpacked
  const Result<std::uint64_t> size = size_now();
  return size && *size < kHeadBytes;
}

bool FileSource::says_one_line() const {
  constexpr std::size_t kLooked = 4096;
  std::array<char, kLooked> first;
  const Result<std::size_t> got = read_at(0, first.data(), first.size());
  if (!got) return false;
  const std::string_view text(first.data(), *got);
  const std::size_t line = text.find('\n') + 1;
  return line > 0 && 2 * line <= text.size() && text.substr(line) == text.substr(0, text.size() - line);
}

Result<void> FileSource::start_behind_lines() {
  const Result<std::uint64_t> size = size_now();
  if (!size) return fail(size.error());
  std::array<char, kHeadBytes> end;
  const std::size_t wanted = std::min<std::uint64_t>(*size, end.size());
  const Result<std::size_t> got = read_at(*size - wanted, end.data(), wanted);
  if (!got) return fail(got.error());
  const std::size_t last = std::string_view(end.data(), *got).rfind('\n');
  if (last == std::string_view::npos) return start_at(wanted == *size ? 0 : *size);
  return start_at(*size - wanted + last + 1);
}

bool FileSource::begins_with(const Content& content, bool shorter_too) const {
  // Of what could not be read nothing is known: better counted twice than lost.
  if (content.head.bytes == 0 || !matches(content.head, content.head.bytes)) return false;
  if (matches(content.before, content.offset)) return true;
  if (!shorter_too) return false;
  const Result<std::uint64_t> size = size_now();
  return size && *size < content.offset;
}

Result<void> FileSource::go_on_from(const Content& content) {
  const Result<std::uint64_t> size = size_now();
  if (!size) return fail(size.error());
  if (*size < content.offset) return start_at(*size);
  offset_ = content.offset;
  known_size_ = content.offset;
  line_ = content.line;
  before_ = content.before;
  read_head_ = content.head;
  note_read();
  return {};
}

Result<void> FileSource::reread(std::uint64_t from, const SplitRules& rules, ReadBuffer& buffer,
                                const std::function<void(const Chunk&)>& take) const {
  SplitRules how = rules;
  how.encoding = encoding_;
  how.flush = false;
  LineState line;
  while (from < offset_) {
    const std::size_t wanted = std::min<std::uint64_t>(
        offset_ - from,
        std::max<std::size_t>(256 * 1024, raw_line_bytes(encoding_, rules.max_line_bytes) + 4));
    if (buffer.raw.size() < wanted) buffer.raw.resize(wanted);
    const Result<std::size_t> got = read_at(from, buffer.raw.data(), wanted);
    if (!got) return fail(got.error());
    const std::string_view raw(buffer.raw.data(), *got);
    const std::size_t mark = from == 0 ? byte_order_mark(raw).bytes : 0;
    const Chunk chunk = split(raw.substr(mark), how, line, buffer.scratch);
    if (mark + chunk.consumed == 0) break;
    take(chunk);
    from += mark + chunk.consumed;
  }
  return {};
}

Result<void> FileSource::start_at(std::uint64_t offset) {
  char last = '\n';
  if (offset > 0) {
    const Result<std::size_t> got = read_at(offset - 1, &last, 1);
    if (!got) return fail(got.error());
    if (*got == 0) return fail(ErrorCode::kIo, "read: the file is shorter than it was a moment ago");
  }
  offset_ = offset;
  line_ = {.skipping = last != '\n' && encoding_ == Encoding::kBytes, .evaluated = 0};
  before_ = mark_before(offset);
  pending_ = 0;
  known_size_ = offset;
  read_head_ = {};
  note_read();
  return {};
}

FilePosition FileSource::position() const {
  FilePosition position;
  position.id = id_;
  position.offset = offset_;
  position.line = line_;
  position.head = offset_ == 0 ? head_ : read_head_;
  position.before = before_;
  position.open = open_;
  position.cut = cut_;
  position.modified_ns = modified_ns_;
  return position;
}

// The file is not what was read of it. Where to go on: at its end if it was only cut back to a place passed
// on the way; else at its beginning, for what is there now is new.
ReadStatus FileSource::restart(std::uint64_t size, bool hole) {
  ReadStatus status;
  status.rewrite = size < offset_ || hole ? Rewrite::kTruncated : Rewrite::kRewritten;
  status.bytes_lost = pending_is_evaluated() ? 0 : pending_;
  const Passed* best = nullptr;
  if (size > 0 && size < offset_) {
    for (const Passed& passed : passed_) {
      if (passed.mark.bytes == 0 || passed.offset > size || !matches(passed.head, passed.head.bytes) ||
          !matches(passed.mark, passed.offset))
        continue;
      if (best == nullptr || passed.offset > best->offset) best = &passed;
    }
  }
  const std::uint64_t place = best == nullptr ? 0 : size;
  status.may_miss = best != nullptr && size > best->offset;
  if (best == nullptr) {
    status.cut_away = offset_ > 0;
    remember(content());
    head_ = {};
    open_ = {};
  }
  passed_ = {};
  pending_ = 0;
  if (!start_at(place)) static_cast<void>(start_at(0));
  refresh_head(size);
  return status;
}

Result<ReadStatus> FileSource::read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                    Chunk& into) {
  into = {};
  ReadStatus status;
  SplitRules how = rules;
  std::size_t wanted = before_.bytes + std::max(limit, raw_line_bytes(encoding_, rules.max_line_bytes) + 4);
  const ReadAhead::Place place{fd_, id_, offset_ - before_.bytes, wanted, before_.bytes, far_reads_};
  std::string_view raw = read_together(place, buffer);
  const bool together = !raw.empty();
  if (together) {
    wanted = raw.size();  // that much is there, and there is more
  } else {
    if (buffer.raw.size() < wanted) buffer.raw.resize(wanted);
    const Result<std::size_t> got = read_at(offset_ - before_.bytes, buffer.raw.data(), wanted);
    if (!got) return fail(got.error());
    raw = std::string_view(buffer.raw.data(), *got);
  }
  const std::string_view before = raw.substr(0, before_.bytes);
  if (before.size() != before_.bytes || (!before.empty() && mark_of(before) != before_)) {
    const Result<std::uint64_t> now = size_now();
    if (!now) return fail(now.error());
    const bool hole = !before.empty() && before.find_first_not_of('\0') == std::string_view::npos;
    // What it holds now is left to the next read: the rest of what it held may be in a copy, and comes first.
    status = restart(*now, hole);
    status.grew = true;
    return status;
  }
  const std::uint64_t base = offset_ - before_.bytes;
  const std::uint64_t end = base + raw.size();
  status.at_end = raw.size() < wanted;
  far_reads_ = status.at_end ? 0 : far_reads_ + 1;
  status.grew = end > known_size_;
  if (end < known_size_) {
    // Cut within the line that has no end yet.
    if (end < offset_ + pending_) {
      status.rewrite = Rewrite::kTruncated;
      status.bytes_lost = pending_is_evaluated() ? 0 : offset_ + pending_ - end;
      status.grew = true;
    }
    line_.evaluated = std::min(line_.evaluated, static_cast<std::uint32_t>(end - offset_));
  }
  known_size_ = end;
  if (status.at_end) {
    if (const Result<FileStat> now = stat()) modified_ns_ = now->modified_ns;
    if (is_packed()) unpacked_->rest();
  }
  refresh_head(end);
  how.encoding = encoding_;
  how.flush = rules.flush && status.at_end;  // else what has no end yet is only not read yet

  const std::size_t skip = before_.bytes;
  std::size_t mark = 0;
  if (offset_ == 0) mark = byte_order_mark(raw).bytes;
  Survey known;
  if (together) {
    known = buffer.ahead->survey();
    known.newlines -= survey(raw.substr(0, skip + mark)).newlines;
  }
  into = split(raw.substr(skip + mark), how, line_, buffer.scratch, together ? &known : nullptr);
  pending_ = into.pending;
  status.at_end = status.at_end && !into.again;
  const std::size_t consumed = into.consumed > 0 ? mark + into.consumed : 0;
  status.bytes = consumed;
  if (consumed > 0) {
    offset_ += consumed;
    const std::string_view done = raw.substr(0, skip + consumed);
    before_ = mark_of(done.substr(done.size() - std::min(done.size(), kMarkBytes)));
    note_read();
    passed_[next_passed_] = {offset_, read_head_, before_};
    next_passed_ = (next_passed_ + 1) % passed_.size();
  }
  // Nothing but a hole in the whole read: the file system knows where it ends.
  if (!is_packed() && into.nul_bytes == raw.size() - skip && into.nul_bytes > 0 && into.block.empty() &&
      !status.at_end) {
    off_t data = ::lseek(fd_, static_cast<off_t>(offset_), SEEK_DATA);
    if (data < 0 && errno == ENXIO) data = ::lseek(fd_, 0, SEEK_END);
    if (data > static_cast<off_t>(offset_)) {
      into.nul_bytes += static_cast<std::uint64_t>(data) - offset_;
      status.bytes += static_cast<std::uint64_t>(data) - offset_;
      offset_ = static_cast<std::uint64_t>(data);
      known_size_ = std::max(known_size_, offset_);
      before_ = mark_before(offset_);
    }
  }
  if (together) {
    const std::uint64_t from = offset_ - before_.bytes;
    ReadAhead::Place next = place;
    next.bytes = std::max(limit, raw_line_bytes(encoding_, rules.max_line_bytes) + 4);
    // A hole was passed over, beyond what was read.
    if (const Result<FileStat> now = stat(); now && from <= end)
      buffer.ahead->go_on(next, from, raw.substr(static_cast<std::size_t>(from - base)), end, now->size);
  }
  return status;
}

}  // namespace logbell::engine
