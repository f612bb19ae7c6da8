// The annotations live one room further down, where the store needs them too.
#pragma once

#include "engine/io/thread_annotations.h"  // IWYU pragma: export
