// Glob: which files a pattern names now, and which directories decide about it.
//
// Pure but for reading directories; owned by the reader thread.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/file_source.h"

namespace logbell::engine {

struct FoundFile {
  std::string path;
  FileStat stat;
};

struct GlobResult {
  struct Directory {
    std::string path;
    bool any_name = false;  // a link leads into it: names there are not those of the pattern
    friend auto operator<=>(const Directory&, const Directory&) = default;
  };
  std::vector<FoundFile> files;        // by path; symbolic links followed; directories left out
  std::vector<Directory> directories;  // a change in one of these can change the result
  struct Failure {
    std::string path;
    std::string error;
  };
  std::vector<Failure> failures;  // directories that could not be read, names that could not be looked at
};

// `*`, `?` and `[…]` within a name, `**` for any number of directories (at most kMaxDepth deep). A name that
// begins with a dot must be asked for.
inline constexpr int kMaxDepth = 16;
GlobResult find_files(const std::string& pattern);

// Whether it may lead to more than one name.
bool is_pattern(const std::string& path);
// Whether the pattern can mean this path, without looking.
bool could_match(const std::string& pattern, const std::string& path);
// Whether a file or directory of this name can be on the pattern's way.
bool has_component(const std::string& pattern, const std::string& name);

// The regular files beside `path` whose names begin with its name, or have a date before its extension: what it is called
// once it is rotated (app.log.1, app.log-20260501, app-20260501.log, app.1.log). Compressed ones are left out: their bytes are not the ones we know.
std::vector<FoundFile> rotated_siblings(const std::string& path);
// Of those that a listing of its directory names.
std::vector<FoundFile> rotated_siblings(const std::string& path, const std::vector<std::string>& names);
// The names in a directory, sorted; none if it cannot be listed.
std::vector<std::string> names_in(const std::string& directory);
// The compressed ones (app.log.2.gz), unless what they are made of is still there: then they may be in the
// making. By modification, which compressors keep, or make that of the compressing. Only has_rotated_name():
// app.log-audit.1.gz is another log's.
std::vector<FoundFile> packed_siblings(const std::string& path);
std::vector<FoundFile> packed_siblings(const std::string& path, const std::vector<std::string>& names);
// Whether `name`, without the ending of a compressor, is `log` with numbers and dates behind it, or old, bak
// or prev, and perhaps its extension again, or with a date before its extension, as rotation names files.
bool has_rotated_name(std::string_view name, std::string_view log);
// What files that lie in the directories of a pattern were called before they were rotated, as far as the pattern means
// those names, in order: whether any file has such a name now or not.
std::set<std::string> rotated_names(const std::string& pattern);
// "/log/app.log" of "/log/app.log.1", of "/log/app.log-20260501" and of "/log/app-20260501.log": what it may have been called
// before it was rotated; `path` itself if it has no such name.
std::string unrotated(const std::string& path);
// Whether the name says that the file is compressed, in whatever format.
bool has_packed_name(std::string_view path);

// "/var/log" of "/var/log/app.log"; "." of "app.log".
std::string directory_of(const std::string& path);
std::string name_of(const std::string& path);
// Where symbolic links lead to, also if nothing is there; `path` itself if that cannot be told.
std::string real_path(const std::string& path);

}  // namespace logbell::engine
