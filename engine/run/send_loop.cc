#include "engine/run/send_loop.h"
