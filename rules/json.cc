#include "rules/json.h"
