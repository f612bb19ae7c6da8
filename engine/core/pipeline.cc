#include "engine/core/pipeline.h"
