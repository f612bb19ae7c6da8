#include "rules/matcher.h"
