#include "engine/io/store.h"
