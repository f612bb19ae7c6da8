#include "rules/route.h"
