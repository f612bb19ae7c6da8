#include "engine/io/source.h"
