#include "engine/run/clock.h"
