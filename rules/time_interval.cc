#include "rules/time_interval.h"
