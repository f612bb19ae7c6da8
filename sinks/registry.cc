#include "sinks/registry.h"
