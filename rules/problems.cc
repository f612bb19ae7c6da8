#include "rules/problems.h"
