#include "engine/run/config.h"
