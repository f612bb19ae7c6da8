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

TEST_CASE("multiline: Python's traces that have nothing to do with one another", "[rules][multiline]") {
  const std::string trace =
      "Traceback (most recent call last):\n"
      "  File \"a.py\", line 1, in <module>\n"
      "orders.QueueNotFoundError: orders\n";
  CHECK(records(any(), trace + trace + trace) == std::vector<int>{3, 3, 3});
  CHECK(records(any(), trace + "\n" + trace) == std::vector<int>{4, 3});
  const std::string link = "The above exception was the direct cause of the following exception:\n";
  CHECK(records(any(), trace + "\n" + link + "\n" + trace + trace) == std::vector<int>{9, 3});
  CHECK(records(any(), trace + "\n" + link + "done\n") == std::vector<int>{5, 1});
  // One that was cut off takes nothing of the log with it.
  for (const char* line : {"ERROR: order 1 not sent", "WARNING: x", "panic: y", "done", "listening on 80"}) {
    CAPTURE(line);
    CHECK(records(any(), trace.substr(0, trace.find("orders.")) + line + "\n" + trace) ==
          std::vector<int>{2, 1, 3});
  }
  for (const char* error : {"KeyError: 3", "KeyboardInterrupt", "socket.timeout: timed out", "zlib.error: x",
                            "_queue.Empty", "E2bigError:", "json.decoder.JSONDecodeError: Expecting value"}) {
    CAPTURE(error);
    CHECK(records(any(), trace.substr(0, trace.find("orders.")) + error + "\nnext\n") ==
          std::vector<int>{3, 1});
  }
}

TEST_CASE("multiline: Python's groups of exceptions", "[rules][multiline]") {
  const std::string group =
      "  + Exception Group Traceback (most recent call last):\n"
      "  |   File \"a.py\", line 5, in <module>\n"
      "  | ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)\n"
      "  +-+---------------- 1 ----------------\n"
      "    | Traceback (most recent call last):\n"
      "    |   File \"a.py\", line 6, in f\n"
      "    | ValueError: 1\n"
      "    +---------------- 2 ----------------\n"
      "    | KeyError: 2\n"
      "    +------------------------------------\n";
  CHECK(records(any(), group + "ERROR: order 0 not sent\n" + group + group + "KeyError: 3\n") ==
        std::vector<int>{10, 1, 10, 10, 1});
  CHECK(records(any(), group + "\nDuring handling of the above exception, another exception occurred:\n\n"
                               "Traceback (most recent call last):\n"
                               "  File \"a.py\", line 9, in <module>\n"
                               "KeyError: 3\nnext\n") == std::vector<int>{16, 1});
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

TEST_CASE("multiline: errors whose names or messages are not the usual ones", "[rules][multiline]") {
  for (const char* text :
       {"TypeError [ERR_INVALID_ARG_TYPE]: The \"url\" argument must be a string\n    at send "
        "(/app/orders.js:3:1)\n",
        "Error [ERR_HTTP_HEADERS_SENT]: Cannot set headers\n    at send (/app/orders.js:3:1)\n",
        "QueueNotFound [Error]: orders\n    at send (/app/orders.js:3:1)\n",
        "Error: outer\n    at a (/app/orders.js:3:1)\n    ... 5 lines matching cause stack trace ...\n    at "
        "b {\n"
        "  [cause]: Error: inner\n      at c (/app/orders.js:9:1)\n}\n",
        "org.postgresql.util.PSQLException: ERROR: syntax error\n  Position: 15\n\tat "
        "com.example.Orders.send(Orders.java:12)\n",
        "org.springframework.web.client.HttpClientErrorException$NotFound: 404 Not Found\n\tat "
        "a.B.c(B.java:1)\n",
        "java.lang.IllegalStateException: x\n\tat a.B.c(B.java:1)\n\t[CIRCULAR REFERENCE: java.lang.Error: "
        "y]\n",
        "java.lang.IllegalStateException: x\n\tat a.B.c(B.java:1)\n\tSuppressed: "
        "reactor.FluxOnAssembly$OnAssemblyException: \n"
        "Error has been observed at the following site(s):\n\t*__checkpoint \xE2\x87\xA2 Handler\nOriginal "
        "Stack Trace:\n\t\tat a.B.c(B.java:1)\n",
        "fatal error: stack overflow\n\nruntime stack:\nruntime.throw({0x4b2f3d, 0x3})\n\t/src/panic.go:1 "
        "+0x5\n\ngoroutine 1 [running]:\n"
        "main.orders()\n\t/src/main.go:12 +0x22\n...additional frames elided...\n",
        "SIGQUIT: quit\nPC=0x46e1a1 m=0 sigcode=0\n\ngoroutine 0 "
        "[idle]:\nruntime.futex()\n\t/src/sys.s:5\n\nrax    0xca\nr10    0x0\n"}) {
    CAPTURE(text);
    CHECK(records(any(), std::string(text) + "listening\n" + text).size() == 3);
  }
  // What is indented behind an error's line is its message; nothing else is.
  CHECK(records(any(), "Error: x\n  more\nnext\n  more\n") == std::vector<int>{2, 1, 1});
}

TEST_CASE("multiline: only the languages asked for", "[rules][multiline]") {
  const Multiline go = Multiline::traces({Language::kGo});
  CHECK(records(go, "java.lang.Error: x\n\tat a.b(C.java:1)\n") == std::vector<int>{1, 1});
}

}  // namespace
}  // namespace logbell::rules
