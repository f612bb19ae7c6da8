#include "rules/multiline.h"

#include <catch2/catch.hpp>

namespace logbell::rules {
namespace {

using Language = Multiline::Language;

// The records that these lines are, each as its number of lines.
std::vector<int> records(const Multiline& multiline, const std::string& text) {
  std::vector<int> sizes;
  Multiline::State state;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    if (multiline.judge(std::string_view(text).substr(at, end - at), state) ==
        Multiline::Verdict::kContinues) {
      REQUIRE_FALSE(sizes.empty());
      ++sizes.back();
    } else {
      sizes.push_back(1);
    }
    at = end + 1;
  }
  return sizes;
}

const Multiline& any() {
  static const Multiline kAny =
      Multiline::traces({Language::kJava, Language::kPython, Language::kGo, Language::kNode});
  return kAny;
}

TEST_CASE("multiline: a record goes on to the next first line", "[rules][multiline]") {
  const Multiline multiline = Multiline::by_first_line(*Regex::compile(R"(^\d{4}-)"));
  CHECK(records(multiline, "2026-05-01 one\n\tat x\n\n2026-05-01 two\n2026-05-01 three\nmore\n") ==
        std::vector<int>{3, 1, 2});
  // What comes before the first of them is a record too.
  CHECK(records(multiline, "rest\nof it\n2026-05-01 one\n") == std::vector<int>{2, 1});
}

TEST_CASE("multiline: a line that is no trace's is one by itself, and waits for nobody",
          "[rules][multiline]") {
  Multiline::State state;
  for (const char* line : {"GET /orders 200", "ERROR no such order", "", "  indented", "}",
                           "goroutine 1 [running]:", "the Exception handler was set"}) {
    CAPTURE(line);
    CHECK(any().judge(line, state) == Multiline::Verdict::kAlone);
  }
}

TEST_CASE("multiline: Java's traces", "[rules][multiline]") {
  CHECK(records(any(),
                "2026-05-01 INFO before\n"
                "Exception in thread \"main\" java.lang.IllegalStateException: order 7: no queue\n"
                "\tat com.example.Orders.send(Orders.java:12) ~[app.jar:na]\n"
                "\tat java.base/java.lang.Thread.run(Thread.java:833)\n"
                "\tSuppressed: java.io.IOException: close\n"
                "\t\tat com.example.Queue.close(Queue.java:3)\n"
                "\t\t... 2 more\n"
                "Caused by: com.example.QueueNotFoundException: queue orders\n"
                "\tat com.example.Queue.find(Queue.java:40)\n"
                "\t... 17 common frames omitted\n"
                "2026-05-01 INFO after\n"
                "java.lang.NullPointerException\n"
                "\tat a.B.c(B.java:1)\n"
                "java.lang.OutOfMemoryError: Java heap space\n") == std::vector<int>{1, 9, 1, 2, 1});
}

TEST_CASE("multiline: Python's traces, one behind another", "[rules][multiline]") {
  CHECK(records(any(),
                "ERROR:root:failed\n"
                "Traceback (most recent call last):\n"
                "  File \"a.py\", line 1, in <module>\n"
                "    open(\"x\")\n"
                "FileNotFoundError: [Errno 2] No such file or directory: 'x'\n"
                "\n"
                "During handling of the above exception, another exception occurred:\n"
                "\n"
                "Traceback (most recent call last):\n"
                "  File \"a.py\", line 4, in <module>\n"
                "KeyboardInterrupt\n"
                "INFO:root:after\n") == std::vector<int>{1, 10, 1});
}

TEST_CASE("multiline: Go's panics", "[rules][multiline]") {
  CHECK(records(any(),
                "2026/05/01 10:00:00 listening\n"
                "panic: runtime error: invalid memory address or nil pointer dereference\n"
                "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48f7a2]\n"
                "\n"
                "goroutine 1 [running]:\n"
                "main.(*Orders).Send(0x0, {0x4b2f3d, 0x3})\n"
                "\t/src/main.go:12 +0x22\n"
                "created by main.main in goroutine 1\n"
                "\t/src/main.go:5 +0x1d\n"
                "exit status 2\n"
                "2026/05/01 10:00:01 listening\n") == std::vector<int>{1, 9, 1});
}

TEST_CASE("multiline: Node's errors", "[rules][multiline]") {
  CHECK(records(any(),
                "TypeError: Cannot read properties of undefined (reading 'queue')\n"
                "    at Orders.send (/app/orders.js:12:9)\n"
                "    at process.processTicksAndRejections (node:internal/process/task_queues:95:5) {\n"
                "  code: 'ENOENT',\n"
                "  [cause]: Error: no queue\n"
                "      at find (/app/queue.js:3:1)\n"
                "}\n"
                "listening on 8080\n") == std::vector<int>{7, 1});
}

TEST_CASE("multiline: only the languages asked for", "[rules][multiline]") {
  const Multiline go = Multiline::traces({Language::kGo});
  CHECK(records(go, "java.lang.Error: x\n\tat a.b(C.java:1)\n") == std::vector<int>{1, 1});
}

}  // namespace
}  // namespace logbell::rules
