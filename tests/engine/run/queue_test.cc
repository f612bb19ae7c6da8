// BoundedQueue: order, the bound that makes a producer wait, poke and close.
#include "engine/run/queue.h"

#include <chrono>
#include <thread>

#include <catch2/catch.hpp>

using logbell::engine::BoundedQueue;

TEST_CASE("queue: hands everything over in order, whatever the bound", "[run][queue]") {
  BoundedQueue<int> queue(10);
  std::thread producer([&] {
    for (int i = 0; i < 5000; ++i) {
      if (!queue.push(i, 3)) return;
    }
    queue.close();
  });
  int next = 0;
  while (const auto value = queue.pop_unless([] { return false; })) {
    CHECK(queue.weight() <= 10);
    REQUIRE(*value == next++);
  }
  producer.join();
  CHECK(next == 5000);
}

TEST_CASE("queue: one item always fits an empty queue", "[run][queue]") {
  BoundedQueue<int> queue(10);
  CHECK(queue.push(1, 1000));
  CHECK(queue.weight() == 1000);
  CHECK(queue.waits() == 0);
  CHECK(queue.try_pop() == 1);
  CHECK(queue.weight() == 0);
  CHECK_FALSE(queue.try_pop().has_value());
}

TEST_CASE("queue: closed, it takes nothing more and gives what it holds", "[run][queue]") {
  BoundedQueue<int> queue(1);
  REQUIRE(queue.push(1, 1));
  bool taken = true;
  std::thread waiting([&] { taken = queue.push(2, 1); });  // full: waits until closed
  while (queue.waits() == 0)
    std::this_thread::yield();
  queue.close();
  waiting.join();
  CHECK_FALSE(taken);
  CHECK(queue.waits() == 1);
  CHECK(queue.closed());
  CHECK(queue.pop_unless([] { return false; }) == 1);
  CHECK_FALSE(queue.pop_unless([] { return false; }).has_value());
}

TEST_CASE("queue: a poke wakes who waits until a time, and is used up", "[run][queue]") {
  BoundedQueue<int> queue(1);
  const auto far = std::chrono::steady_clock::time_point::max();
  queue.poke();
  CHECK_FALSE(queue.pop_until(far).has_value());  // would wait for ever without the poke
  std::thread poker([&] { queue.poke(); });
  CHECK_FALSE(queue.pop_until(far).has_value());
  poker.join();
  CHECK_FALSE(queue.pop_until(std::chrono::steady_clock::time_point::min()).has_value());
}
