#include "rules/time.h"
