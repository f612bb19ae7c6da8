#include "engine/run/waker.h"
