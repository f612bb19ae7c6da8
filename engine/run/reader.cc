#include "engine/run/reader.h"
