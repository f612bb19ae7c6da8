// Exec: a program of the operator's, run once a notification, which it gets as JSON on its standard input.
//
// The configuration is immutable; the sink it builds belongs to one send loop. No shell is involved, and
// nothing from a log gets into the arguments or the environment.
#pragma once

#include <cstddef>
#include <memory>

#include "rules/time.h"
#include "sinks/sink.h"

namespace logbell::sinks {

// A program that pages somebody does it in less; it is ended within the 15 s of an attempt.
inline constexpr rules::Duration kExecTimeout{std::chrono::seconds(10)};
inline constexpr rules::Duration kMaxExecTimeout{std::chrono::seconds(12)};
// Between SIGTERM and SIGKILL: to clean up, not to go on.
inline constexpr rules::Duration kExecGrace{std::chrono::seconds(2)};
// Of what it prints so much is kept; the rest is read and thrown away, so that it never waits for us.
inline constexpr std::size_t kMaxExecOutputBytes = 64 * 1024;

// The soft limit on open files that programs get, where this process has raised its own: those that use
// select(2) take no descriptor from 1024 on. Before any sink is built; 0: ours.
void set_exec_open_files(std::size_t limit);

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_exec(FieldReader& fields);

}  // namespace logbell::sinks
