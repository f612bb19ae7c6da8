#include "engine/io/glob.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <tuple>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sys/stat.h>
#include <unistd.h>

namespace logbell::engine {
namespace {

constexpr int kMaxLinks = 40;  // as many as the kernel follows

bool has_magic(std::string_view name) {
  return name.find_first_of("*?[") != std::string_view::npos;
}

std::vector<std::string> components(std::string_view pattern) {
  std::vector<std::string> parts;
  while (!pattern.empty()) {
    const std::size_t slash = std::min(pattern.find('/'), pattern.size());
    if (slash > 0) parts.emplace_back(pattern.substr(0, slash));
    pattern.remove_prefix(std::min(slash + 1, pattern.size()));
  }
  return parts;
}

bool name_matches(const std::string& pattern, const char* name) {
  return ::fnmatch(pattern.c_str(), name, FNM_PERIOD) == 0;
}

struct Entry {
  std::string name;
  unsigned char type = DT_UNKNOWN;
};

// The names in a directory, sorted; an errno on failure.
int list(const std::string& directory, std::vector<Entry>& out) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(directory.c_str()), &::closedir);
  if (dir == nullptr) return errno;
  errno = 0;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone, which POSIX.1-2024 makes safe
  for (const dirent* entry = ::readdir(dir.get()); entry != nullptr; entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") out.push_back({std::string(name), entry->d_type});
  }
  std::sort(out.begin(), out.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return 0;
}

bool is_symlink(const std::string& path) {
  struct stat found {};
  return ::lstat(path.c_str(), &found) == 0 && S_ISLNK(found.st_mode);
}

bool is_directory(const std::string& path, unsigned char type) {
  if (type == DT_DIR) return true;
  if (type != DT_UNKNOWN && type != DT_LNK) return false;
  struct stat found {};
  return ::stat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode);
}

class Walk {
 public:
  Walk(const std::string& pattern, GlobResult& out) : parts_(components(pattern)), out_(out) {
    if (!parts_.empty()) step(pattern.front() == '/' ? "/" : "", 0, 0);
  }

 private:
  static std::string join(const std::string& base, const std::string& name) {
    return base.empty() || base.back() == '/' ? base + name : base + '/' + name;
  }
  static std::string shown(const std::string& base) { return base.empty() ? "." : base; }

  void step(const std::string& base, std::size_t part, int depth) {
    const bool last = part + 1 == parts_.size();
    if (parts_[part] == "**") {
      out_.directories.push_back({shown(base)});
      if (!last) step(base, part + 1, depth);
      std::vector<Entry> entries;
      if (depth >= kMaxDepth || !read(base, entries)) return;
      for (const Entry& entry : entries) {
        const std::string path = join(base, entry.name);
        // Links are not followed downwards: they may lead in circles.
        if (entry.name.front() != '.' && entry.type != DT_LNK && is_directory(path, entry.type))
          step(path, part, depth + 1);
        if (last && entry.name.front() != '.') add(path);
      }
      return;
    }
    if (has_magic(parts_[part])) {
      out_.directories.push_back({shown(base)});
      std::vector<Entry> entries;
      if (!read(base, entries)) return;
      for (const Entry& entry : entries) {
        if (!name_matches(parts_[part], entry.name.c_str())) continue;
        const std::string path = join(base, entry.name);
        if (last) {
          add(path);
        } else if (is_directory(path, entry.type)) {
          step(path, part + 1, depth);
        }
      }
      return;
    }
    const std::string path = join(base, parts_[part]);
    if (last) {
      out_.directories.push_back({shown(base)});
      add(path);
      return;
    }
    // A directory that is not there yet appears in the one above it; so does another target of a link.
    struct stat found {};
    const bool there = ::stat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode);
    if (!there || is_symlink(path)) out_.directories.push_back({shown(base)});
    if (there) step(path, part + 1, depth);
  }

  bool read(const std::string& base, std::vector<Entry>& entries) {
    const int error = list(shown(base), entries);
    if (error != 0 && error != ENOENT && error != ENOTDIR)
      out_.failures.push_back({shown(base), std::string("read directory: ") + rules::errno_text(error)});
    return error == 0;
  }

  void add(const std::string& path) {
    rules::Result<FileStat> stat = stat_path(path);
    if (is_symlink(path)) out_.directories.push_back({directory_of(real_path(path)), true});
    if (!stat) {
      if (stat.error().code != rules::ErrorCode::kNotFound)
        out_.failures.push_back({path, stat.error().message});
      return;
    }
    if (!S_ISDIR(stat->mode)) out_.files.push_back({path, *stat});
  }

  std::vector<std::string> parts_;
  GlobResult& out_;
};

bool match_parts(const std::vector<std::string>& pattern, std::size_t p, const std::vector<std::string>& path,
                 std::size_t i) {
  if (p == pattern.size()) return i == path.size();
  if (pattern[p] == "**") {
    for (std::size_t next = i; next <= path.size(); ++next) {
      if (match_parts(pattern, p + 1, path, next)) return true;
    }
    return p + 1 == pattern.size() && i < path.size();
  }
  return i < path.size() && name_matches(pattern[p], path[i].c_str()) &&
         match_parts(pattern, p + 1, path, i + 1);
}

}  // namespace

GlobResult find_files(const std::string& pattern) {
  GlobResult result;
  const Walk walk(pattern, result);
  std::sort(result.directories.begin(), result.directories.end());
  result.directories.erase(std::unique(result.directories.begin(), result.directories.end()),
                           result.directories.end());
  return result;
}

bool is_pattern(const std::string& path) {
  return has_magic(path);
}

bool could_match(const std::string& pattern, const std::string& path) {
  return (pattern.substr(0, 1) == "/") == (path.substr(0, 1) == "/") &&
         match_parts(components(pattern), 0, components(path), 0);
}

bool has_component(const std::string& pattern, const std::string& name) {
  const std::vector<std::string> parts = components(pattern);
  return std::any_of(parts.begin(), parts.end(), [&](const std::string& part) {
    return part == "**" || name_matches(part, name.c_str());
  });
}

namespace {

constexpr std::array<std::string_view, 7> kPackedEndings = {".gz",  ".bz2", ".xz", ".zst",
                                                            ".lz4", ".zip", ".Z"};

// The length of the ending; 0: the name says nothing.
std::size_t packed_ending(std::string_view name) {
  for (const std::string_view ending : kPackedEndings) {
    if (name.size() > ending.size() && name.ends_with(ending)) return ending.size();
  }
  return 0;
}

constexpr int kMostLooks = 4;  // at a directory that changes all the time

// "-20260501", ".1", ".2026-05-01T10:00:00Z", ".old"
bool is_turn(std::string_view text) {
  if (text.size() < 2 || std::string_view(".-_").find(text[0]) == std::string_view::npos) return false;
  return text.find_first_not_of("0123456789.-_:TZ") == std::string_view::npos || text.substr(1) == "old" ||
         text.substr(1) == "bak" || text.substr(1) == "prev";
}

// ".log" of "app.log"; empty: it has none.
std::string_view extension_of(std::string_view log) {
  const std::size_t dot = log.rfind('.');
  return dot == std::string_view::npos || dot == 0 ? std::string_view() : log.substr(dot);
}

// "20260501", "2026-05-01T10", "1796022121"
bool begins_with_date(std::string_view text) {
  const bool seconds = text.size() == 10 && text[0] == '1' && text.find_first_not_of("0123456789") == std::string_view::npos;
  if (seconds) return true;
  std::string digits;
  for (const char c : text.substr(0, 10)) {
    if (c >= '0' && c <= '9') {
      digits += c;
    } else if (std::string_view("-._").find(c) == std::string_view::npos) {
      break;
    }
  }
  return digits.size() >= 8 && digits.starts_with("20") && digits.substr(4, 2) <= "12" && digits.substr(6, 2) <= "31";
}

// app-20260501.log of app.log, and app.1.log, as logrotate's `extension` has it; app-2.log may be the log of a second
// program.
bool has_turn_before_extension(std::string_view name, std::string_view log) {
  const std::string_view extension = extension_of(log);
  const std::string_view stem = log.substr(0, log.size() - extension.size());
  if (extension.empty() || name.size() <= log.size() || !name.starts_with(stem) || !name.ends_with(extension)) return false;
  const std::string_view turn = name.substr(stem.size(), name.size() - log.size());
  if (!is_turn(turn)) return false;
  const bool numbered = turn[0] == '.' && turn.find_first_not_of("0123456789", 1) == std::string_view::npos;
  return numbered || begins_with_date(turn.substr(1));
}

// Calls `take` with each of the names in `directory` that begins with `name` and says more, or is it with a date before
// its extension, if it is of a regular file.
void each_longer_name(const std::vector<std::string>& names, const std::string& directory,
                      std::string_view name, const std::function<void(std::string_view, FoundFile)>& take) {
  const std::string_view stem = name.substr(0, name.size() - extension_of(name).size());
  for (auto at = std::upper_bound(names.begin(), names.end(), stem);
       at != names.end() && at->starts_with(stem); ++at) {
    // "app.logger.1" is of another word.
    const bool longer = at->starts_with(name) && at->size() > name.size() &&
                        std::isalpha(static_cast<unsigned char>((*at)[name.size()])) == 0;
    if (!longer && !has_turn_before_extension(std::string_view(*at).substr(0, at->size() - packed_ending(*at)), name)) continue;
    const std::string sibling = directory + '/' + *at;
    if (is_symlink(sibling)) continue;
    const rules::Result<FileStat> stat = stat_path(sibling);
    if (stat && stat->is_regular()) take(*at, {sibling, *stat});
  }
}

}  // namespace

bool has_packed_name(std::string_view path) {
  return packed_ending(path.substr(path.rfind('/') + 1)) > 0;
}

bool has_rotated_name(std::string_view name, std::string_view log) {
  name.remove_suffix(packed_ending(name));
  if (!name.starts_with(log)) return has_turn_before_extension(name, log);
  name.remove_prefix(log.size());
  const std::string_view extension = extension_of(log);
  return is_turn(name) || (!extension.empty() && name.ends_with(extension) && is_turn(name.substr(0, name.size() - extension.size())));
}

namespace {

// What `name` may have been before it was rotated, the shortest first.
std::vector<std::string> unrotated_names(const std::string& name) {
  std::vector<std::string> found;
  const std::string_view whole = std::string_view(name).substr(0, name.size() - packed_ending(name));
  const std::string extension(extension_of(whole));
  for (std::size_t end = name.find_first_of(".-_", 1); end != std::string::npos; end = name.find_first_of(".-_", end + 1)) {
    for (const std::string& log : {name.substr(0, end), name.substr(0, end) + extension}) {
      if (has_rotated_name(name, log)) found.push_back(log);
    }
  }
  return found;
}

}  // namespace

std::set<std::string> rotated_names(const std::string& pattern) {
  std::set<std::string> found;
  for (const GlobResult::Directory& directory : find_files(pattern).directories) {
    for (const std::string& name : names_in(directory.path)) {
      for (const std::string& log : unrotated_names(name)) {
        const std::string path = directory.path + '/' + log;
        if (!could_match(pattern, path)) continue;
        found.insert(path);
        break;
      }
    }
  }
  return found;
}

std::string unrotated(const std::string& path) {
  const std::string name = name_of(path);
  const std::vector<std::string> logs = unrotated_names(name);
  return logs.empty() ? path : path.substr(0, path.size() - name.size()) + logs.front();
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<Entry> entries;
  std::vector<std::string> names;
  if (list(directory, entries) != 0) return names;
  names.reserve(entries.size());
  for (Entry& entry : entries)
    names.push_back(std::move(entry.name));
  return names;
}

std::vector<FoundFile> rotated_siblings(const std::string& path, const std::vector<std::string>& names) {
  const std::string real = real_path(path);
  std::vector<FoundFile> found;
  each_longer_name(names, directory_of(real), name_of(real), [&](std::string_view name, FoundFile file) {
    if (packed_ending(name) == 0) found.push_back(std::move(file));
  });
  return found;
}

std::vector<FoundFile> rotated_siblings(const std::string& path) {
  const std::string directory = directory_of(real_path(path));
  // A file that is renamed while its directory is listed may be in no listing at all: until two agree.
  std::vector<FoundFile> found;
  for (int look = 0; look < kMostLooks; ++look) {
    std::vector<FoundFile> again = rotated_siblings(path, names_in(directory));
    const bool agree = look > 0 && std::equal(found.begin(), found.end(), again.begin(), again.end(),
                                              [](const FoundFile& a, const FoundFile& b) {
                                                return a.path == b.path && a.stat.id == b.stat.id;
                                              });
    found = std::move(again);
    if (agree) break;
  }
  return found;
}

std::vector<FoundFile> packed_siblings(const std::string& path, const std::vector<std::string>& names) {
  const std::string real = real_path(path);
  std::vector<FoundFile> found;
  const std::string log = name_of(real);
  each_longer_name(names, directory_of(real), log, [&](std::string_view name, FoundFile file) {
    const std::size_t ending = packed_ending(name);
    const bool same = name.size() - ending == log.size() && name.starts_with(log);
    if (ending > 0 && (same || has_rotated_name(name, log)) &&
        !stat_path(file.path.substr(0, file.path.size() - ending)))
      found.push_back(std::move(file));
  });
  std::sort(found.begin(), found.end(), [](const FoundFile& a, const FoundFile& b) {
    return std::tie(a.stat.modified_ns, a.stat.id.born_ns, a.path) <
           std::tie(b.stat.modified_ns, b.stat.id.born_ns, b.path);
  });
  return found;
}

std::vector<FoundFile> packed_siblings(const std::string& path) {
  return packed_siblings(path, names_in(directory_of(real_path(path))));
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string name_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string real_path(const std::string& path) {
  std::array<char, PATH_MAX> resolved{};
  std::string at = path;
  // A link may lead to a name that is not there at the moment: then the link itself says where.
  for (int hop = 0; hop < kMaxLinks; ++hop) {
    if (::realpath(at.c_str(), resolved.data()) != nullptr) return resolved.data();
    const ssize_t length = ::readlink(at.c_str(), resolved.data(), resolved.size());
    if (length <= 0) break;
    std::string target(resolved.data(), static_cast<std::size_t>(length));
    if (target.front() != '/') target.insert(0, directory_of(at) + '/');
    at = std::move(target);
  }
  return at;
}

}  // namespace logbell::engine
