#include "rules/expr.h"
